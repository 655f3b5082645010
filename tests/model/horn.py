#!/usr/bin/env python3
"""Prove models of protocols, for every number of sessions: a small prover by Horn clauses, as ProVerif is one.

Usage: horn.py [-v] MODEL.pv     prints one line for each query: proved or open
       horn.py --self-test       checks the prover with protocols of which it is known whether they are secure

It reads the part of ProVerif's language that generate.py writes: one channel that attackers own, private channels,
events, correspondences (also injective ones), secrecy, restrictions and phases. It has no `not`, `nounif`, tables or
equivalences.

The method is that of Bruno Blanchet, in these steps, one section of this file each:

  terms        Shared terms, unification and matching.
  translation  What attackers can do, and what each process does, become clauses: hypotheses and a conclusion, which
               holds if the hypotheses do. `att(M)` says that attackers have M, `mess(M)` that M is sent on a private
               channel, `ev(E)` that an event was. A name that a process makes is a function of the session in which it
               does, and of what it has received there.
               [1, section 4], [2, section 5.2], [3, section 3.2]
  saturation   Clauses are resolved with each other until nothing new follows: a clause that needs a fact other than
               `att(variable)` is resolved on it, until all that can be derived follows from clauses that need none.
               [1, section 5], [2, section 6.1], [3, section 3.2]
  queries      A query about an event asks which clauses conclude that event, and whether an event that it demands is
               among their hypotheses; an injective one also asks whether two ends can have the same beginning.
               [2, sections 6.2 and 7], [3, section 3.3]

[1] Blanchet: An efficient cryptographic protocol verifier based on Prolog rules. CSFW 2001.
[2] Blanchet: Automatic verification of correspondences for security protocols. J. of Computer Security 17(4), 2009.
[3] Blanchet: Modeling and verifying security protocols with the applied pi calculus and ProVerif. FnT Privacy and
    Security 1(1-2), 2016.
[4] Blanchet, Smyth, Cheval, Sylvestre: ProVerif, user manual and tutorial. Its sections are named by their titles.

What the results mean:

  proved       There is no attack in the symbolic model: no number of sessions, and nothing that attackers can do with
               the functions of the model, makes the query false. Every step of this program replaces what can happen by
               that or by more, never by less.
  open         This method finds no proof. It looks for no attack, so there need not be one: clauses forget how often a
               message was sent, the failed pattern of an `else`, and which of two things came first within a phase.
  unfinished   The clauses did not come to an end within a limit (only if a caller of `prove` gives one).

Neither says anything about what the model leaves out: lengths, timing, and cryptography that is weaker than its
symbols.
"""
import re
import sys
from collections import defaultdict
from itertools import count, product

sys.setrecursionlimit(100000)

# --- Reading ---------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\(\*.*?\*\)|\s+|(==>|<>|&&|\|\||inj-event|[A-Za-z_][A-Za-z0-9_']*|\d+|[()\[\],;:.=|!])", re.S)


class Reader:
    """A parser by recursive descent. Grammar: [4], appendix "Language reference". Types are read and ignored."""

    def __init__(self, text):
        self.toks, at = [], 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found:
                raise SyntaxError(text[at:at + 40])
            if found.group(1):
                self.toks.append(found.group(1))
            at = found.end()
        self.at = 0

    def peek(self):
        return self.toks[self.at] if self.at < len(self.toks) else None

    def next(self):
        self.at += 1
        return self.toks[self.at - 1]

    def need(self, tok):
        got = self.next()
        if got != tok:
            around = " ".join(self.toks[max(0, self.at - 12):self.at + 5])
            raise SyntaxError(f"{tok} expected, found {got} in: {around}")

    def take(self, tok):
        if self.peek() == tok:
            self.at += 1
            return True
        return False

    def listed(self, item, close=")"):
        out = []
        while not self.take(close):
            out.append(item())
            if not self.take(","):
                self.need(close)
                break
        return out

    def typed(self):
        names = [self.next()]
        while self.take(","):
            names.append(self.next())
        self.need(":")
        self.next()
        return names

    def binders(self, end):
        names = []
        while not self.take(end):
            names.append(self.next())
            if self.take(":"):
                self.next()
            self.take(",")
        return names

    def term(self):
        """A term or a pattern: ("id", x), ("app", f, args), ("tup", args), ("bind", x), ("eq", term)."""
        if self.take("="):
            return ("eq", self.term())
        if self.take("("):
            parts = self.listed(self.term)
            return parts[0] if len(parts) == 1 else ("tup", parts)
        name = self.next()
        if self.take("("):
            return ("app", name, self.listed(self.term))
        if self.take(":"):
            self.next()
            return ("bind", name)
        return ("id", name)

    def condition(self):
        left = self.conjunct()
        while self.take("||"):
            left = ("or", left, self.conjunct())
        return left

    def conjunct(self):
        left = self.comparison()
        while self.take("&&"):
            left = ("and", left, self.comparison())
        return left

    def comparison(self):
        left = self.term()
        if self.take("="):
            return ("same", left, self.term())
        self.need("<>")
        return ("differ", left, self.term())

    def process(self):
        left = self.sequence()
        parts = [left]
        while self.take("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else ("par", parts)

    def then(self):
        return self.sequence() if self.take(";") else ("nil",)

    def sequence(self):
        tok = self.next()
        if tok == "0":
            return ("nil",)
        if tok == "(":
            inner = self.process()
            self.need(")")
            return inner
        if tok == "!":
            return ("rep", self.sequence())
        if tok == "new":
            name = self.typed()[0]
            return ("new", name, self.then())
        if tok in ("in", "out"):
            self.need("(")
            channel = self.next()
            self.need(",")
            what = self.term()
            self.need(")")
            return (tok, channel, what, self.then())
        if tok == "event":
            what = self.term()
            return ("event", what[1], what[2] if what[0] == "app" else [], self.then())
        if tok == "phase":
            number = int(self.next())
            return ("phase", number, self.then())
        if tok == "let":
            pattern = self.term()
            if pattern[0] == "id":
                pattern = ("bind", pattern[1])
            self.need("=")
            what = self.term()
            self.need("in")
            yes = self.sequence()
            return ("let", pattern, what, yes, self.sequence() if self.take("else") else ("nil",))
        if tok == "if":
            what = self.condition()
            self.need("then")
            yes = self.sequence()
            return ("if", what, yes, self.sequence() if self.take("else") else ("nil",))
        args = self.listed(self.term) if self.take("(") else []
        return ("call", tok, args)


class Model:
    """The declarations of a file.

    funs: constructors, with how many arguments each takes. rules: for each destructor, and for each constructor with an
    equation, what it may be rewritten to. letfuns and macros (`let`): parameters and body, which replaces each use.
    """

    def __init__(self, text):
        self.funs, self.rules, self.private, self.consts = {}, defaultdict(list), set(), {"true"}
        self.channels = set()
        self.events = {}
        self.queries, self.restrictions, self.macros, self.letfuns = [], [], {}, {}
        read = Reader(text)
        while read.peek():
            self.declaration(read, read.next())

    def declaration(self, read, word):
        if word in ("free", "const"):
            names = read.typed()
            channel = read.toks[read.at - 1] == "channel"
            if read.take("["):
                read.next()
                read.need("]")
                self.private.update(names)
                self.channels.update(names if channel else [])
            self.consts.update(names)
        elif word == "fun":
            name = read.next()
            read.need("(")
            self.funs[name] = len(read.listed(read.next))
            read.need(":")
            read.next()
        elif word in ("reduc", "equation"):
            read.need("forall")
            names = read.binders(";")
            left = read.term()
            read.need("=")
            right = read.term()
            self.rewrites(word, names, left, right)
        elif word == "event":
            name = read.next()
            self.events[name] = len(read.listed(read.next)) if read.take("(") else 0
        elif word == "letfun":
            name = read.next()
            params = self.params(read)
            read.need("=")
            self.letfuns[name] = (params, read.term())
        elif word in ("query", "restriction"):
            self.claim(read, word)
        elif word == "let":
            name = read.next()
            params = self.params(read)
            read.need("=")
            self.macros[name] = (params, read.process())
        elif word == "process":
            self.main = read.process()
            return
        else:
            raise SyntaxError(word)
        read.need(".")

    @staticmethod
    def params(read):
        return read.binders(")") if read.take("(") else []

    def rewrites(self, word, names, left, right):
        """One rule of a `reduc`. An `equation` is two rules: each side may be replaced by the other, once.

        That is enough for equations like that of Diffie-Hellman. [2, section 5.1], [4, "Equations"]
        """
        env = {name: at for at, name in enumerate(names)}
        left, right = self.plain(left, env), self.plain(right, env)
        self.rules[left[0]].append((left, right))
        if word == "equation":
            self.rules[right[0]].append((right, left))

    def claim(self, read, word):
        """A query or a restriction: facts on its left side and, after ==>, facts or an equation."""
        names = []
        if read.toks[read.at + 1] in (":", ","):
            names = read.binders(";")
        env = {name: at for at, name in enumerate(names)}
        left = [self.fact(read, env)]
        while read.take("&&"):
            left.append(self.fact(read, env))
        if word == "query" and len(left) > 1:
            raise SyntaxError("a query has one fact on its left side")
        right = None
        if read.take("==>"):
            if word == "restriction":
                one = self.plain(read.term(), env)
                read.need("=")
                right = (one, self.plain(read.term(), env))
            else:
                right = [self.fact(read, env)]
                while read.take("||"):
                    right.append(self.fact(read, env))
        (self.queries if word == "query" else self.restrictions).append((left, right))

    def fact(self, read, env):
        kind = "inj" if read.peek() == "inj-event" else read.peek()
        read.next()
        read.need("(")
        inner = read.term()
        read.need(")")
        if kind != "attacker":
            self.function(inner[1], len(inner[2]) if inner[0] == "app" else 0)
        if kind == "attacker":
            return ("attacker", self.plain(inner, env))
        return (kind, inner[1], tuple(self.plain(arg, env) for arg in (inner[2] if inner[0] == "app" else [])))

    def constant(self, name):
        if name not in self.consts:
            raise SyntaxError(f"{name} is not declared")
        return mk("c:" + name)

    def function(self, name, count):
        destructors = {head: len(rules[0][0]) - 1 for head, rules in self.rules.items()}
        known = {**self.funs, **destructors, **self.events}
        if known.get(name) != count:
            raise SyntaxError(f"{name} does not take {count}")

    def plain(self, term, env):
        """The term of a declaration, where `env` says which names are variables."""
        if term[0] == "id":
            return env[term[1]] if term[1] in env else self.constant(term[1])
        if term[0] == "tup":
            return mk(f"T{len(term[1])}", *[self.plain(part, env) for part in term[1]])
        return mk(term[1], *[self.plain(part, env) for part in term[2]])


# --- Terms -----------------------------------------------------------------------------------------------------------
#
# A variable is an int. Everything else is an App: its first part is its name, the others are its arguments. The names
# are `c:` and that of a constant, `n:` and that of a `new`, `T` and a length for tuples, or that of a function. Facts
# are Apps as well: `att0` and a term (att1 in phase 1), `mess0:p` and a term, `ev:` and an event, `goal` and the number
# of a query.

class App(tuple):
    """Equal terms are one object: terms that repeat their parts stay small, and are compared at once."""

    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__


SHARED = {}


def mk(*parts):
    found = SHARED.get(parts)
    if found is None:
        found = SHARED[parts] = App(parts)
        found.vars = frozenset().union(*({part} if type(part) is int else part.vars for part in parts[1:]))
        found.size = min(10 ** 9, 1 + sum(1 if type(part) is int else part.size for part in parts[1:]))
    return found


def walk(term, sub):
    """What a substitution says a term is, as far as its head."""
    while type(term) is int and term in sub:
        term = sub[term]
    return term


def occurs(var, term, sub, seen):
    term = walk(term, sub)
    if type(term) is int:
        return term == var
    if not term.vars or term in seen:
        return False
    seen.add(term)
    return any(occurs(var, part, sub, seen) for part in term[1:])


def unify(one, two, sub, seen=None):
    """Whether two terms have a common instance; `sub` is extended by the most general one. It shares its variables.

    `seen` keeps pairs that are already equal under `sub`, so that shared parts are looked at once.
    """
    one, two = walk(one, sub), walk(two, sub)
    if one is two or (type(one) is int and one == two):
        return True
    if type(one) is int:
        if occurs(one, two, sub, set()):
            return False
        sub[one] = two
        return True
    if type(two) is int:
        return unify(two, one, sub, seen)
    if one[0] != two[0] or len(one) != len(two) or not (one.vars or two.vars):
        return False
    seen = set() if seen is None else seen
    if (one, two) in seen:
        return True
    seen.add((one, two))
    return all(unify(one[at], two[at], sub, seen) for at in range(1, len(one)))


def apply(term, sub, memo=None):
    """The term under a substitution that `unify` made. A memo may be kept for as long as `sub` is not changed."""
    term = walk(term, sub)
    if type(term) is int or not term.vars or not sub:
        return term
    memo = {} if memo is None else memo
    found = memo.get(term)
    if found is None:
        found = memo[term] = mk(term[0], *[apply(part, sub, memo) for part in term[1:]])
    return found


def match(pattern, term, sub, seen=None):
    """Whether a term is an instance of a pattern; `sub` is extended by what the pattern's variables are."""
    if type(pattern) is int:
        if pattern in sub:
            return sub[pattern] is term or (type(term) is int and sub[pattern] == term)
        sub[pattern] = term
        return True
    if not pattern.vars:
        return pattern is term
    if type(term) is int or pattern[0] != term[0] or len(pattern) != len(term):
        return False
    seen = set() if seen is None else seen
    if (pattern, term) in seen:
        return True
    seen.add((pattern, term))
    return all(match(pattern[at], term[at], sub, seen) for at in range(1, len(pattern)))


def variables(term, into):
    if type(term) is int:
        into.add(term)
    else:
        into.update(term.vars)
    return into


def renamed(term, name, memo):
    """The term with each variable replaced by what `name` gives."""
    if type(term) is int:
        return name(term)
    if not term.vars:
        return term
    found = memo.get(term)
    if found is None:
        found = memo[term] = mk(term[0], *[renamed(part, name, memo) for part in term[1:]])
    return found


def shift(term, by):
    return renamed(term, lambda var: var + by, {})


def size(term):
    return 1 if type(term) is int else term.size


def is_att(fact):
    return fact[0][:3] == "att"


# --- Translation of processes ----------------------------------------------------------------------------------------

class State:
    """Where a process stands. [2, section 5.2.2]

    env: its variables. hyps: what had to be received, and the events so far. sids: the numbers of the copies of `!`
    that it is in. params: what it received; a name that it makes is a function of these two. neqs: pairs that must
    differ. path: the calls that lead here. During an evaluation, params also has terms that must follow each
    substitution.
    """
    __slots__ = ("env", "hyps", "params", "sids", "neqs", "phase", "path")

    def __init__(self, env, hyps=(), params=(), sids=(), neqs=(), phase=0, path=()):
        self.env, self.hyps, self.params, self.sids, self.neqs, self.phase = env, hyps, params, sids, neqs, phase
        self.path = path

    def copy(self, **new):
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields.update(new)
        return State(**fields)

    def under(self, sub):
        if not sub:
            return self
        each = lambda terms: tuple(apply(term, sub) for term in terms)
        pairs = tuple((apply(one, sub), apply(two, sub)) for one, two in self.neqs)
        env = {name: apply(term, sub) for name, term in self.env.items()}
        return State(env, each(self.hyps), each(self.params), each(self.sids), pairs, self.phase, self.path)


def replaced(term, by):
    """The body of a letfun with its arguments."""
    if term[0] == "id":
        return by.get(term[1], term)
    if term[0] == "tup":
        return ("tup", [replaced(part, by) for part in term[1]])
    return ("app", term[1], [replaced(part, by) for part in term[2]])


def said(name, process):
    """Whether a process has a name anywhere but in an event."""
    if not isinstance(process, (tuple, list)):
        return process == name
    parts = process[3:] if process and process[0] == "event" else process
    return any(said(name, part) for part in parts)


class Translator:
    """Runs each process symbolically; makes a clause for each output and for each event that a query asks about.

    An event that a query demands becomes a hypothesis of all that follows it: it must have happened before. An event
    that a query is about becomes a conclusion, `goal` and the number of the query. [2, sections 5.2.2 and 7.1]
    """

    def __init__(self, model):
        self.model, self.fresh, self.clauses, self.sites = model, count(1000), [], {}
        self.begins, self.ends, self.injective = set(), defaultdict(list), set()
        for number, (left, right) in enumerate(model.queries):
            for kind, *rest in left:
                if kind != "attacker":
                    self.ends[rest[0]].append((number, kind == "inj"))
            for kind, name, _ in right or []:
                self.begins.add(name)
                if kind == "inj":
                    self.injective.add(name)
        for left, _ in model.restrictions:
            self.begins.update(name for _, name, _ in left)

    def value(self, term, state):
        """Every way to evaluate a term: (state, value); a destructor that fails gives none."""
        if term[0] == "id":
            name = term[1]
            if name not in state.env and name in self.model.channels:
                raise SyntaxError(f"{name} is a private channel: it must stay one")
            yield state, state.env[name] if name in state.env else self.model.constant(name)
            return
        if term[0] == "app" and term[1] in self.model.letfuns:
            params, body = self.model.letfuns[term[1]]
            if len(params) != len(term[2]):
                raise SyntaxError(f"{term[1]} does not take {len(term[2])}")
            yield from self.value(replaced(body, dict(zip(params, term[2]))), state)
            return
        parts = term[1] if term[0] == "tup" else term[2]
        head = f"T{len(parts)}" if term[0] == "tup" else term[1]
        if term[0] == "app":
            self.model.function(head, len(parts))
        for after, values in self.values(parts, state):
            if head in self.model.funs or term[0] == "tup":
                yield after, mk(head, *values)
            for left, right in self.model.rules.get(head, ()):
                names = {var: next(self.fresh) for var in variables(left, variables(right, set()))}
                sub = {}
                if unify(apply(left, names), mk(head, *values), sub):
                    yield after.under(sub), apply(apply(right, names), sub)

    def values(self, terms, state):
        """The same for a list: what is learned by a later one is applied to those before it."""
        if not terms:
            yield state, ()
            return
        for after, first in self.value(terms[0], state):
            held = after.copy(params=after.params + (first,))
            for last, rest in self.values(terms[1:], held):
                at = len(after.params)
                yield last.copy(params=last.params[:at] + last.params[at + 1:]), (last.params[at],) + rest

    def matches(self, pattern, value, state):
        """Every way in which a value fits a pattern."""
        kind = pattern[0]
        if kind == "bind":
            yield state.copy(env={**state.env, pattern[1]: value})
        elif kind == "tup":
            parts = tuple(next(self.fresh) for _ in pattern[1])
            sub = {}
            if unify(mk(f"T{len(parts)}", *parts), value, sub):
                after = state.under(sub)
                yield from self.all_match(pattern[1], tuple(apply(part, sub) for part in parts), after)
        else:
            # `value` must follow what the evaluation learns, so it travels with the parameters.
            held = state.copy(params=state.params + (value,))
            at = len(state.params)
            for after, wanted in self.value(pattern[1], held):
                sub = {}
                got = after.params[at]
                if unify(wanted, got, sub):
                    yield after.copy(params=after.params[:at] + after.params[at + 1:]).under(sub)

    def all_match(self, patterns, values, state):
        if not patterns:
            yield state
            return
        held = state.copy(params=state.params + values[1:])
        at = len(state.params)
        for after in self.matches(patterns[0], values[0], held):
            rest = after.params[at:at + len(values) - 1]
            clean = after.copy(params=after.params[:at] + after.params[at + len(values) - 1:])
            yield from self.all_match(patterns[1:], rest, clean)

    def holds(self, what, state):
        """(state, True) where a condition holds, and (state, False) where it may not."""
        if what[0] == "and":
            for after in self.holds(what[1], state):
                yield from self.holds(what[2], after)
        elif what[0] == "or":
            yield from self.holds(what[1], state)
            yield from self.holds(what[2], state)
        else:
            for after, (one, two) in self.values([what[1], what[2]], state):
                if what[0] == "differ":
                    yield after.copy(neqs=after.neqs + ((one, two),))
                else:
                    sub = {}
                    if unify(one, two, sub):
                        yield after.under(sub)

    def destructs(self, term):
        """Whether the evaluation of a term may fail."""
        if term[0] == "id":
            return False
        if term[0] == "app" and term[1] in self.model.letfuns and self.destructs(self.model.letfuns[term[1]][1]):
            return True
        own = term[0] == "app" and term[1] in self.model.rules and term[1] not in self.model.funs
        return own or any(map(self.destructs, term[1] if term[0] == "tup" else term[2]))

    def fails(self, what, state):
        """Where a condition may not hold; one with a destructor may always fail."""
        if what[0] == "and":
            yield from self.fails(what[1], state)
            yield from self.fails(what[2], state)
        elif what[0] == "or":
            for after in self.fails(what[1], state):
                yield from self.fails(what[2], after)
        elif self.destructs(what[1]) or self.destructs(what[2]):
            yield state
        elif what[0] == "differ":
            yield from self.holds(("same", what[1], what[2]), state)
        else:
            yield from self.holds(("differ", what[1], what[2]), state)

    def emit(self, state, conclusion):
        self.clauses.append((state.hyps, conclusion, state.neqs))

    def channel(self, name, state, what):
        """The fact that a message is sent: one on a public channel is the attackers'."""
        self.model.constant(name)
        if name in self.model.private:
            return mk(f"mess{state.phase}:{name}", what)
        return mk(f"att{state.phase}", what)

    def run(self, process, state):
        names = {"in": "input", "if": "test", "let": "match"}
        getattr(self, "run_" + names.get(process[0], process[0]))(process, state)

    def run_nil(self, process, state):
        pass

    def run_par(self, process, state):
        for part in process[1]:
            self.run(part, state)

    def run_rep(self, process, state):
        sid = next(self.fresh)
        self.run(process[1], state.copy(sids=state.sids + (sid,)))

    def site(self, process, state):
        """A number for a place in the processes: the same however a run gets there."""
        return self.sites.setdefault((id(process), state.path), len(self.sites))

    def run_new(self, process, state):
        """A name that is only in events tells sessions apart and nothing else, so it need not depend on what they got."""
        got = state.params if said(process[1], process[2]) else ()
        name = mk(f"n:{process[1]}{self.site(process, state)}", *state.sids, *got)
        self.run(process[2], state.copy(env={**state.env, process[1]: name}))

    def run_phase(self, process, state):
        self.run(process[2], state.copy(phase=process[1]))

    def run_call(self, process, state):
        params, body = self.model.macros[process[1]]
        if len(params) != len(process[2]):
            raise SyntaxError(f"{process[1]} does not take {len(process[2])}")
        for after, values in self.values(process[2], state):
            inner = after.copy(env=dict(zip(params, values)), path=after.path + (id(process),))
            self.run(body, inner)

    def run_out(self, process, state):
        for after, what in self.value(process[2], state):
            self.emit(after, self.channel(process[1], after, what))
            self.run(process[3], after)

    def run_input(self, process, state):
        got = next(self.fresh)
        hyps = state.hyps + (self.channel(process[1], state, got),)
        received = state.copy(hyps=hyps, params=state.params + (got,))
        for after in self.matches(process[2], got, received):
            self.run(process[3], after)

    def run_match(self, process, state):
        """A `let`. Its else is translated as if it were always taken, which is more than what can happen."""
        for after, what in self.value(process[2], state):
            for matched in self.matches(process[1], what, after):
                self.run(process[3], matched)
        self.run(process[4], state)

    def run_test(self, process, state):
        for after in self.holds(process[1], state):
            self.run(process[2], after)
        if process[3] != ("nil",):
            for after in self.fails(process[1], state):
                self.run(process[3], after)

    def run_event(self, process, state):
        """The place and the sessions of an event tell it apart from all others, for queries that are injective."""
        self.model.function(process[1], len(process[2]))
        name, rest, site = process[1], process[3], self.site(process, state)
        for after, values in self.values(process[2], state):
            if name in self.begins:
                record = mk(f"at{site}", *after.sids) if name in self.injective else mk("at")
                after = after.copy(hyps=after.hyps + (mk("ev:" + name, mk("args", *values), record),))
            for number, injective in self.ends.get(name, ()):
                sids = mk(f"at{site}", *after.sids) if injective else mk("at")
                self.emit(after, mk(f"goal{number}", mk(name, *values), sids))
            self.run(rest, after)


# --- Saturation ------------------------------------------------------------------------------------------------------

class Clause:
    """Hypotheses, a conclusion, and pairs of terms that must differ; its variables are 0 to vars - 1.

    sel: which hypothesis is selected, or None: then the clause is one of those from which all follows. keys: the kinds
    of its hypotheses, for a quick comparison.
    """
    __slots__ = ("hyps", "conc", "neqs", "sel", "vars", "keys")


class Solver:
    """Saturation by resolution with free selection. [1, section 5.2], [2, section 6.1]

    all: each clause that is kept, by its conclusion. by_conc: those in which nothing is selected, by their conclusion.
    by_sel: the others, by what is selected. queue: those that are still to be looked at, by size. units: what
    attackers have without a condition.
    """

    def __init__(self, model, phases):
        self.model, self.phases = model, phases
        self.by_conc, self.by_sel, self.all = defaultdict(list), defaultdict(list), defaultdict(list)
        self.queue, self.units = defaultdict(list), defaultdict(list)

    def public(self, term):
        return len(term) == 1 and term[0][:2] == "c:" and term[0][2:] not in self.model.private

    def restrict(self, hyps):
        """What a restriction demands of a clause: (possible, substitution or None).

        If the hypotheses have the events of its left side, its equation holds: the clause is dropped if it cannot, and
        otherwise becomes the instance in which it does. [4, "Restrictions"]
        """
        for left, right in self.model.restrictions:
            want = [("ev:" + name, shift_negative(mk("args", *args))) for _, name, args in left]
            events = [fact for fact in hyps if fact[0][:3] == "ev:"]
            for choice in product(events, repeat=len(want)):
                sub = {}
                if all(w[0] == fact[0] and match(w[1], fact[1], sub) for w, fact in zip(want, choice)):
                    one, two = (match_apply(shift_negative(side), sub) for side in right)
                    if one != two:
                        mgu = {}
                        return (True, mgu) if unify(one, two, mgu) else (False, None)
        return True, None

    def simplify(self, hyps, conc, neqs):
        """None if the clause says nothing; otherwise its simplest form. [2, section 6.1, "Simplification steps"]

        Tuples that attackers have are split, in both directions; a hypothesis is left out if attackers can make it, if
        it stands there twice, or if it only says that attackers have anything at all. A clause is left out if its
        conclusion is one of its hypotheses or is public, or if it needs two equal terms to differ.
        """
        while True:
            possible, sub = self.restrict(hyps)
            if not possible:
                return None
            if sub is None:
                break
            hyps, conc = [apply(fact, sub) for fact in hyps], apply(conc, sub)
            neqs = [(apply(one, sub), apply(two, sub)) for one, two in neqs]
        flat, todo = [], list(hyps)
        while todo:
            fact = todo.pop()
            if is_att(fact) and type(fact[1]) is not int:
                if fact[1][0][0] == "T" and fact[1][0][1:].isdigit():
                    todo.extend(mk(fact[0], part) for part in fact[1][1:])
                    continue
                if self.public(fact[1]):
                    continue
            if fact not in flat:
                flat.append(fact)
        if conc in flat:
            return None
        if is_att(conc):
            if type(conc[1]) is not int and self.public(conc[1]):
                return None
        kept = []
        for one, two in neqs:
            if one == two:
                return None
            if unify(one, two, {}):
                kept.append((one, two))
        flat = self.needed(flat)
        # Known in an earlier phase is known in each later one.
        flat = [f for f in flat if not (is_att(f) and any(is_att(g) and g[1] == f[1] and g[0] < f[0] for g in flat))]
        flat = self.distinct(flat, conc, kept)
        uses = defaultdict(int)
        for fact in flat + [conc]:
            for var in variables(fact, set()):
                uses[var] += 1
        flat = [f for f in flat if not (is_att(f) and type(f[1]) is int and uses[f[1]] == 1)]
        return flat, conc, kept

    def distinct(self, hyps, conc, neqs):
        """The hypotheses without events that say no more than another event does. [4, "Settings", redundantHypElim]

        An event is left out if its variables that occur nowhere else but in `att(variable)` can be replaced so that
        it becomes another hypothesis: the clause with that replacement is an instance of this one, and implies it. To
        leave out a hypothesis never makes a proof wrong; at worst there is none.
        """
        kept = list(hyps)
        for event in [fact for fact in hyps if fact[0][:3] == "ev:"]:
            rest = [fact for fact in kept if fact is not event]
            twins = [fact for fact in rest if fact[0] == event[0]]
            if not twins:
                continue
            simple = lambda fact: is_att(fact) and type(fact[1]) is int
            others = [fact for fact in rest if not simple(fact)] + [side for pair in neqs for side in pair]
            own = event.vars - mk("all", conc, *others).vars
            for twin in twins:
                sub = {}
                if not match(event, twin, sub) or any(sub[var] != var for var in event.vars - own):
                    continue
                asked = [fact for fact in rest if simple(fact) and fact[1] in own]
                left = [fact for fact in rest if fact not in asked]
                known = lambda fact: {other[1] for other in left if is_att(other) and other[0] <= fact[0]}
                if all(self.makes(fact[0], sub[fact[1]], known(fact)) for fact in asked):
                    kept = left
                    break
        return kept

    def needed(self, hyps):
        """The hypotheses without those that attackers can make: of other hypotheses, or of what they know anyway."""
        kept = list(hyps)
        for fact in hyps:
            if is_att(fact) and type(fact[1]) is not int:
                rest = {other[1] for other in kept if other is not fact and is_att(other) and other[0] <= fact[0]}
                if self.makes(fact[0], fact[1], rest):
                    kept.remove(fact)
        return kept

    def makes(self, att, term, known):
        """Whether attackers who have the terms `known` can make a term with constructors only."""
        if term in known:
            return True
        if type(term) is int:
            return False
        if self.public(term) or any(match(unit, term, {}) for unit in self.units[att, term[0]]):
            return True
        built = term[0] in self.model.funs or (term[0][0] == "T" and term[0][1:].isdigit())
        return built and all(self.makes(att, part, known) for part in term[1:])

    def add(self, hyps, conc, neqs):
        """Simplify a clause, number its variables, select a hypothesis, and put it into the queue.

        Never selected are events, which nothing concludes, and `att(variable)`, which would resolve with everything.
        """
        if is_att(conc) and type(conc[1]) is not int and conc[1][0][0] == "T" and conc[1][0][1:].isdigit():
            for part in conc[1][1:]:
                self.add(hyps, mk(conc[0], part), neqs)
            return
        simple = self.simplify(hyps, conc, neqs)
        if simple is None:
            return
        hyps, conc, neqs = simple
        if is_att(conc) and type(conc[1]) is not int and conc[1][0][0] == "T" and conc[1][0][1:].isdigit():
            return self.add(hyps, conc, neqs)
        names = {}
        memo = {}
        canon = lambda term: renamed(term, lambda var: names.setdefault(var, len(names)), memo)
        clause = Clause()
        clause.conc = canon(conc)
        hyps = sorted(hyps, key=lambda fact: -size(fact))
        clause.hyps = [canon(fact) for fact in hyps]
        clause.neqs = [(canon(one), canon(two)) for one, two in neqs]
        clause.vars = len(names)
        clause.sel = next((at for at, fact in enumerate(clause.hyps) if fact[0][:3] != "ev:"
                           and not (is_att(fact) and type(fact[1]) is int)), None)
        clause.keys = frozenset(self.key(fact) for fact in clause.hyps if not (is_att(fact) and type(fact[1]) is int))
        weight = sum(map(size, clause.hyps)) + size(clause.conc)
        self.queue[weight].append(clause)

    @staticmethod
    def key(fact):
        return (fact[0], None if type(fact[1]) is int else fact[1][0])

    def subsumes(self, one, two):
        """Whether `two` follows from `one`: an instance of `one` has its conclusion and no other hypotheses."""
        if len(one.hyps) > len(two.hyps) or not one.keys <= two.keys:
            return False
        sub = {}
        if not match(one.conc, two.conc, sub):
            return False
        return self.cover(one.hyps, two, sub, one.neqs)

    def cover(self, hyps, two, sub, neqs):
        """The same for some hypotheses, and then for the pairs that must differ."""
        if not hyps:
            mine = [(match_apply(a, sub), match_apply(b, sub)) for a, b in neqs]
            return all((a, b) in two.neqs or (b, a) in two.neqs for a, b in mine)
        first, rest = hyps[0], hyps[1:]
        for fact in two.hyps:
            if fact[0] == first[0]:
                trial = dict(sub)
                if match(first, fact, trial) and self.cover(rest, two, trial, neqs):
                    return True
        return False

    def resolve(self, rule, goal):
        """The conclusion of `rule` for the selected hypothesis of `goal`."""
        by, memo = goal.vars, {}
        moved = lambda term: renamed(term, lambda var: var + by, memo)
        sub = {}
        if not unify(moved(rule.conc), goal.hyps[goal.sel], sub):
            return
        done = {}
        bound = lambda term: apply(term, sub, done)
        hyps = [bound(moved(fact)) for fact in rule.hyps]
        hyps += [bound(fact) for at, fact in enumerate(goal.hyps) if at != goal.sel]
        neqs = [(bound(moved(a)), bound(moved(b))) for a, b in rule.neqs]
        neqs += [(bound(a), bound(b)) for a, b in goal.neqs]
        self.add(hyps, bound(goal.conc), neqs)

    def candidates(self, index, key):
        pred, head = key
        if head is None:
            return [c for (p, _), found in list(index.items()) if p == pred for c in list(found)]
        return list(index.get(key, ())) + list(index.get((pred, None), ()))

    def saturate(self, limit=None):
        """Take the smallest clause of the queue, drop it or what it subsumes, resolve it with the others; and again.

        False if there are more than `limit` steps.
        """
        steps = 0
        while self.queue:
            weight = min(self.queue)
            clause = self.queue[weight].pop(0)
            if not self.queue[weight]:
                del self.queue[weight]
            if len(self.needed(clause.hyps)) < len(clause.hyps):
                self.add(clause.hyps, clause.conc, clause.neqs)
                continue
            key = self.key(clause.conc)
            if any(self.subsumes(old, clause) for old in self.candidates(self.all, key)):
                continue
            for old in self.candidates(self.all, key):
                if self.subsumes(clause, old):
                    self.remove(old)
            self.all[key].append(clause)
            if is_att(clause.conc) and not clause.hyps and not clause.neqs and type(clause.conc[1]) is not int:
                for phase in range(int(clause.conc[0][3:]), self.phases):
                    self.units[f"att{phase}", clause.conc[1][0]].append(clause.conc[1])
            steps += 1
            if limit and steps > limit:
                return False
            if steps % 500 == 0 and VERBOSE:
                print(steps, sum(map(len, self.all.values())), sum(map(len, self.queue.values())), file=sys.stderr)
                if VERBOSE > 1:
                    print(show(clause)[:400], file=sys.stderr)
            if clause.sel is None:
                self.by_conc[key].append(clause)
                for goal in self.candidates(self.by_sel, key):
                    self.resolve(clause, goal)
            else:
                key = self.key(clause.hyps[clause.sel])
                self.by_sel[key].append(clause)
                for rule in self.candidates(self.by_conc, key):
                    self.resolve(rule, clause)
        return True

    def remove(self, clause):
        self.all[self.key(clause.conc)].remove(clause)
        index, key = (self.by_conc, self.key(clause.conc)) if clause.sel is None else \
            (self.by_sel, self.key(clause.hyps[clause.sel]))
        index[key].remove(clause)


VERBOSE = 0


def show(clause):
    return " & ".join(map(text, clause.hyps)) + " -> " + text(clause.conc)


def text(term):
    if type(term) is int:
        return f"x{term}"
    head = term[0][2:] if term[0][:2] in ("c:", "n:") else term[0]
    return head if len(term) == 1 else head + "(" + ", ".join(map(text, term[1:])) + ")"


def shift_negative(term):
    """The variables of a query, apart from those of a clause."""
    return renamed(term, lambda var: -1 - var if var >= 0 else var, {})


def match_apply(term, sub):
    return renamed(term, lambda var: sub.get(var, var), {})


# --- Queries ---------------------------------------------------------------------------------------------------------

def asked(model, hyps, conc, neqs):
    """A clause that concludes an end becomes the instance that its query asks about, or nothing if there is none.

    The variables of queries are below those of clauses, which begin at 1000.
    """
    if conc[0][:4] != "goal":
        return list(hyps), conc, list(neqs)
    (_, name, args), = model.queries[int(conc[0][4:])][0]
    sub = {}
    if not unify(mk(name, *args), conc[1], sub):
        return None, None, None
    each = lambda term: apply(term, sub)
    return list(map(each, hyps)), each(conc), [(each(one), each(two)) for one, two in neqs]


def justified(clause, left, right):
    """The events in the hypotheses of a clause that the right side of its query asks for."""
    kind, name, args = left
    sub = {}
    if not match(shift_negative(mk(name, *args)), clause.conc[1], sub):
        return []
    found = []
    for want_kind, want, wanted in right:
        for fact in clause.hyps:
            if fact[0] == "ev:" + want:
                trial = dict(sub)
                if match(shift_negative(mk("args", *wanted)), fact[1], trial):
                    found.append((want_kind, fact))
    return found


def injective(solver, finals):
    """Whether each clause can be given one of its beginnings so that two ends never have the same. [2, section 7.2]

    `finals`: the clauses that conclude the end, each with the beginnings among its hypotheses. A clause is also
    compared with itself: it stands for all its sessions.
    """
    apart = {}

    def differ(one, first, two, second):
        key = one, first, two, second
        if key not in apart:
            apart[key] = separate(solver, finals[one][0], first, finals[two][0], second)
        return apart[key]

    def choose(chosen):
        if len(chosen) == len(finals):
            return True
        at = len(chosen)
        for event in finals[at][1]:
            trial = chosen + [event]
            if all(differ(at, event, other, trial[other]) for other in range(at + 1)) and choose(trial):
                return True
        return False

    return choose([])


def separate(solver, one, first, two, second):
    """Whether the ends of two clauses are the same end wherever their beginnings `first` and `second` are the same."""
    by, sub = one.vars, {}
    if not (unify(first[1], shift(second[1], by), sub) and unify(first[2], shift(second[2], by), sub)):
        return True
    hyps = [apply(fact, sub) for fact in one.hyps] + [apply(shift(fact, by), sub) for fact in two.hyps]
    sids = apply(one.conc[2], sub), apply(shift(two.conc[2], by), sub)
    while True:
        possible, more = solver.restrict(hyps)
        if not possible:
            return True
        if more is None:
            return sids[0] == sids[1]
        hyps = [apply(fact, more) for fact in hyps]
        sids = apply(sids[0], more), apply(sids[1], more)


def verdict(solver, number, query):
    """Whether a query is proved: each clause that concludes its event has an event that it demands. [2, section 6.2]"""
    left, right = query
    finals = [c for key, found in solver.all.items() if key[0] == f"goal{number}" for c in found if c.sel is None]
    if right is None:
        return not finals
    reasons = []
    for clause in finals:
        events = justified(clause, left[0], right)
        if not events:
            if VERBOSE:
                print("open:", show(clause)[:VERBOSE * 1000], file=sys.stderr)
            return False
        reasons.append((clause, [fact for _, fact in events]))
    if left[0][0] == "inj":
        return injective(solver, reasons)
    return True


def highest_phase(process):
    """The number of the last phase of a process."""
    if not isinstance(process, (tuple, list)):
        return 0
    own = process[1] if process and process[0] == "phase" else 0
    return max([own] + [highest_phase(part) for part in process])


def prove(source, limit=None):
    """The result of each query of a model, and the solver with all its clauses.

    To the clauses of the processes come those of the attackers: they keep what they have in the next phase, apply each
    function, and make names of their own. [2, section 5.2.1]
    """
    model = Model(source)
    translator = Translator(model)
    translator.run(model.main, State({}))
    phases = 1 + max([highest_phase(model.main)] + [highest_phase(body) for _, body in model.macros.values()])
    solver = Solver(model, phases)
    for phase in range(phases):
        att = f"att{phase}"
        if phase:
            solver.add([mk(f"att{phase - 1}", 0)], mk(att, 0), [])
        for name, arity in model.funs.items():
            solver.add([mk(att, at) for at in range(arity)], mk(att, mk(name, *range(arity))), [])
        for rules in model.rules.values():
            for rule, right in rules:
                solver.add([mk(att, part) for part in rule[1:]], mk(att, right), [])
        solver.add([], mk(att, mk("n:attacker", 0)), [])
    for number, (left, right) in enumerate(model.queries):
        if left[0][0] == "attacker":
            solver.add([mk(f"att{phases - 1}", left[0][1])], mk(f"goal{number}", mk("attacker"), mk("at")), [])
    for clause in translator.clauses:
        hyps, conc, neqs = asked(model, *clause)
        if conc:
            solver.add(hyps, conc, neqs)
    done = solver.saturate(limit)
    return [("proved" if verdict(solver, number, query) else "open") if done else "unfinished"
            for number, query in enumerate(model.queries)], solver


# --- Self-test -------------------------------------------------------------------------------------------------------
#
# Protocols of which it is known what is true of them. What is false must come out open: a prover that proves it is
# wrong.

SYMBOLS = """free c: channel. fun pk(bitstring): bitstring. fun aenc(bitstring, bitstring): bitstring.
reduc forall k: bitstring, m: bitstring; adec(k, aenc(pk(k), m)) = m.
fun senc(bitstring, bitstring): bitstring. reduc forall k: bitstring, m: bitstring; sdec(k, senc(k, m)) = m.
fun sign(bitstring, bitstring): bitstring. reduc forall k: bitstring, m: bitstring; getmess(sign(k, m)) = m.
reduc forall k: bitstring, m: bitstring; checksign(sign(k, m), m, pk(k)) = true.
fun dhpk(bitstring): bitstring. fun dh(bitstring, bitstring): bitstring.
equation forall x: bitstring, y: bitstring; dh(x, dhpk(y)) = dh(y, dhpk(x)).
fun h(bitstring): bitstring.
const A, B, LEFT, RIGHT: bitstring. free skA, skB, key, secret: bitstring [private].
event Begin(bitstring). event End(bitstring). event Once(bitstring, bitstring).
event BeginA(bitstring, bitstring, bitstring, bitstring). event EndA(bitstring, bitstring, bitstring, bitstring).
event BeginB(bitstring, bitstring, bitstring, bitstring). event EndB(bitstring, bitstring, bitstring, bitstring).
"""
AGREES = "query m: bitstring; event(End(m)) ==> event(Begin(m)).\n"
AGREES_ONCE = AGREES.replace("event(", "inj-event(")
CLOSED = "query attacker(secret).\n"


def needham_schroeder(second, expected):
    """Needham and Schroeder's public-key protocol (1978). The second message lacks its sender; Lowe (1995) adds it.

    A runs it with any peer that attackers choose, B with the one that the first message names. B sends `secret` under
    its nonce if it believes to talk to A.
    """
    return """
query i: bitstring, r: bitstring;
  inj-event(EndB(pk(skA), pk(skB), i, r)) ==> inj-event(BeginA(pk(skA), pk(skB), i, r)).
query i: bitstring, r: bitstring;
  inj-event(EndA(pk(skA), pk(skB), i, r)) ==> inj-event(BeginB(pk(skA), pk(skB), i, r)).
query attacker(secret).
process out(c, (pk(skA), pk(skB)));
  ( (!in(c, peer: bitstring); new i: bitstring; out(c, aenc(peer, (i, pk(skA)))); in(c, m: bitstring);
     let (=i, r: bitstring EXPECTED) = adec(skA, m) in event BeginA(pk(skA), peer, i, r); out(c, aenc(peer, r));
     event EndA(pk(skA), peer, i, r))
  | (!in(c, m: bitstring); let (i: bitstring, peer: bitstring) = adec(skB, m) in new r: bitstring;
     event BeginB(peer, pk(skB), i, r); out(c, aenc(peer, (i, r SECOND))); in(c, n: bitstring);
     if adec(skB, n) = r then event EndB(peer, pk(skB), i, r); if peer = pk(skA) then out(c, senc(r, secret))) )
""".replace("SECOND", second).replace("EXPECTED", expected)


def signed_exchange(over, checked):
    """Diffie-Hellman: B answers A's share and sends `secret` under the common key; both sign. Their keys leak later."""
    return CLOSED + """
process out(c, (pk(skA), pk(skB)));
  ( (!new x: bitstring; let gx = dhpk(x) in out(c, (gx, sign(skA, (A, gx)))))
  | (!in(c, (gx: bitstring, s: bitstring)); CHECKED new y: bitstring; let gy = dhpk(y) in
     out(c, (gy, sign(skB, OVER), senc(h(dh(y, gx)), secret))))
  | phase 1; out(c, (skA, skB)) )
""".replace("OVER", over).replace("CHECKED", checked)


SELF_TESTS = [
    ("Needham-Schroeder: Lowe's attack on B, none on A", "open proved open", needham_schroeder("", "")),
    ("Needham-Schroeder with Lowe's fix", "proved proved proved", needham_schroeder(", pk(skB)", ", =peer")),
    ("a signed message can be repeated", "proved open", AGREES + AGREES_ONCE + """process out(c, pk(skA));
  ( (!new m: bitstring; event Begin(m); out(c, sign(skA, m)))
  | (!in(c, (m: bitstring, s: bitstring)); if checksign(s, m, pk(skA)) = true then event End(m)) )"""),
    ("a signed answer to a nonce cannot", "proved proved", AGREES + AGREES_ONCE + """process out(c, pk(skA));
  ( (!in(c, n: bitstring); event Begin(n); out(c, sign(skA, n)))
  | (!new n: bitstring; out(c, n); in(c, s: bitstring); if checksign(s, n, pk(skA)) = true then event End(n)) )"""),
    ("nor if the receiver remembers what it took", "proved proved",
     "restriction m: bitstring, i: bitstring, j: bitstring; event(Once(m, i)) && event(Once(m, j)) ==> i = j.\n"
     + AGREES + AGREES_ONCE + """process out(c, pk(skA));
  ( (!new m: bitstring; event Begin(m); out(c, sign(skA, m)))
  | (!in(c, (m: bitstring, s: bitstring)); if checksign(s, m, pk(skA)) = true then
     new i: bitstring; event Once(m, i); event End(m)) )"""),
    ("unless it remembers something else", "proved open",
     "restriction m: bitstring, i: bitstring, j: bitstring; event(Once(m, i)) && event(Once(m, j)) ==> i = j.\n"
     + AGREES + AGREES_ONCE + """process out(c, pk(skA));
  ( (!new m: bitstring; event Begin(m); out(c, sign(skA, m)))
  | (!in(c, (m: bitstring, s: bitstring)); if checksign(s, m, pk(skA)) = true then
     new i: bitstring; event Once(i, m); event End(m)) )"""),
    ("one beginning, two ends in the same session", "proved open", AGREES + AGREES_ONCE + """process
  !new m: bitstring; event Begin(m); ( event End(m) | event End(m) )"""),
    ("two beginnings, three ends in the same session", "proved open", AGREES + AGREES_ONCE + """process
  !new m: bitstring; event Begin(m); event Begin(m); ( event End(m) | event End(m) | event End(m) )"""),
    ("two beginnings, two ends in the same session", "proved proved", AGREES + AGREES_ONCE + """process
  !new m: bitstring; event Begin(m); event Begin(m); ( event End(m) | event End(m) )"""),
    ("an end before its beginning", "open", AGREES + "process !new m: bitstring; event End(m); event Begin(m)"),
    ("an event that is reached, and one that is not", "open proved",
     "query m: bitstring; event(Begin(m)).\nquery m: bitstring; event(End(m)).\n" + """
process new m: bitstring; ( event Begin(m) | (in(c, x: bitstring); if x = m then event End(x)) )"""),
    ("Diffie-Hellman without a check of A's share", "open", signed_exchange("(B, gx, gy)", "")),
    ("Diffie-Hellman, signed, with identity keys that leak later", "proved",
     signed_exchange("(B, gx, gy)", "if checksign(s, (A, gx), pk(skA)) = true then")),
    ("both ends of Diffie-Hellman have the same key", "open", """query m: bitstring; event(End(m)).
process new x: bitstring; new y: bitstring; if h(dh(x, dhpk(y))) = h(dh(y, dhpk(x))) then event End(x)"""),
    ("an equation in both directions", "open open", "query attacker(key).\n" + CLOSED + """
fun p(bitstring): bitstring. fun q(bitstring): bitstring.
fun f(bitstring, bitstring): bitstring. fun g(bitstring, bitstring): bitstring.
equation forall x: bitstring, y: bitstring; f(x, q(y)) = g(y, p(x)).
process new x: bitstring; new y: bitstring; new z: bitstring;
  out(c, (x, q(y), senc(g(y, p(x)), key), y, p(z), senc(f(z, q(y)), secret)))"""),
    ("a recorded message, and a key that leaks later", "open", CLOSED + """
process out(c, senc(key, secret)); phase 1; out(c, key)"""),
    ("a message under a key that leaked only before", "proved", CLOSED + """
process new k: bitstring; ( out(c, k) | phase 1; new k: bitstring; out(c, senc(k, secret)) )"""),
    ("what is received in phase 0 is not of phase 1", "proved", "query m: bitstring; event(End(m)).\n" + """
process new m: bitstring; ( (in(c, x: bitstring); if x = m then event End(x)) | phase 1; out(c, m) )"""),
    ("a private channel", "proved open",
     "free p: channel [private].\n" + CLOSED + "query m: bitstring; event(End(m)).\n" + """
process ( out(p, secret) | (in(p, m: bitstring); event End(m)) )"""),
    ("an else, also where a destructor fails", "proved open open",
     "query event(End(A)).\nquery event(End(B)).\n" + CLOSED + """
process ( (in(c, m: bitstring); if m = A then 0 else (if m = A then event End(A) else event End(B)))
        | (in(c, m: bitstring); if sdec(key, m) <> A then 0 else out(c, secret))
        | (in(c, m: bitstring); let x = sdec(key, m) in out(c, A) else out(c, secret)) )"""),
    ("an else of a let", "open", CLOSED + """
process in(c, m: bitstring); let (=A, x: bitstring) = sdec(key, m) in 0 else out(c, secret)"""),
    ("an else where only a destructor can fail", "open", CLOSED + """
process in(c, m: bitstring); if sdec(key, m) = sdec(key, m) then 0 else out(c, secret)"""),
    ("one or the other", "proved open",
     "query m: bitstring; event(End(m)) ==> event(Begin(m)) || event(Once(m, m)).\n" + AGREES + """
process new m: bitstring; new n: bitstring; ( (event Begin(m); event End(m)) | (event Once(n, n); event End(n)) )"""),
]


REFUSED = [
    ("a name without a declaration", "process out(c, unknown)"),
    ("a function with too few arguments", "process out(c, senc(key))"),
    ("an event without a declaration", "query event(Unknown(A)).\nprocess 0"),
    ("a private channel that attackers get", "free p: channel [private].\nprocess out(c, p)"),
    ("a query about two events at once", "query event(End(A)) && event(Begin(A)) ==> event(Begin(A)).\nprocess 0"),
]


def refuses(source):
    try:
        prove(source)
    except SyntaxError:
        return True
    return False


def self_test():
    """Prints what came out wrong; True if nothing did."""
    wrong = 0
    for name, source in REFUSED:
        if not refuses(SYMBOLS + source):
            print(f"{name}: was read, but should be refused")
            wrong += 1
    for name, expected, source in SELF_TESTS:
        results, _ = prove(SYMBOLS + source)
        if results != expected.split():
            print(f"{name}: {' '.join(results)}, expected: {expected}")
            wrong += 1
    print(f"self-test: {len(REFUSED) + len(SELF_TESTS) - wrong} passed, {wrong} failed")
    return not wrong


def main():
    global VERBOSE
    args = sys.argv[1:]
    while args and args[0] == "-v":
        VERBOSE += 1
        args.pop(0)
    if args == ["--self-test"]:
        sys.exit(0 if self_test() else 1)
    if len(args) != 1:
        sys.exit(__doc__)
    with open(args[0], encoding="utf-8") as file:
        results, _ = prove(file.read())
    print("\n".join(results))


if __name__ == "__main__":
    main()
