#!/usr/bin/env python3
"""Prove the models in this directory where ProVerif is not installed.

Reads the part of ProVerif's language that generate.py writes, translates it to Horn clauses as ProVerif does (every number
of sessions; a fresh name is a function of its session), and saturates them by resolution with free
selection. `proved` is sound. `open` means that this method finds no proof: it looks for no trace, and it ignores the
negated condition of an `else`.

Usage: horn.py MODEL.pv     prints one line for each query: proved or open
"""
import re
import sys
from collections import defaultdict
from itertools import count, product

sys.setrecursionlimit(100000)

# --- Reading -------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\(\*.*?\*\)|\s+|(==>|<>|&&|\|\||inj-event|[A-Za-z_][A-Za-z0-9_']*|\d+|[()\[\],;:.=|!])", re.S)


class Reader:
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
            raise SyntaxError(f"{tok} expected, found {got} in: {' '.join(self.toks[max(0, self.at - 12):self.at + 5])}")

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
    def __init__(self, text):
        self.funs, self.rules, self.private, self.consts = {}, defaultdict(list), set(), {"true"}
        self.events = {}
        self.queries, self.restrictions, self.macros, self.letfuns = [], [], {}, {}
        read = Reader(text)
        while read.peek():
            self.declaration(read, read.next())

    def declaration(self, read, word):
        if word in ("free", "const"):
            names = read.typed()
            if read.take("["):
                read.next()
                read.need("]")
                self.private.update(names)
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
        env = {name: at for at, name in enumerate(names)}
        left, right = self.plain(left, env), self.plain(right, env)
        self.rules[left[0]].append((left, right))
        if word == "equation":
            self.rules[right[0]].append((right, left))

    def claim(self, read, word):
        names = []
        if read.toks[read.at + 1] in (":", ","):
            names = read.binders(";")
        env = {name: at for at, name in enumerate(names)}
        left = [self.fact(read, env)]
        while read.take("&&"):
            left.append(self.fact(read, env))
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
        known = {**self.funs, **{head: len(rules[0][0]) - 1 for head, rules in self.rules.items()}, **self.events}
        if known.get(name) != count:
            raise SyntaxError(f"{name} does not take {count}")

    def plain(self, term, env):
        if term[0] == "id":
            return env[term[1]] if term[1] in env else self.constant(term[1])
        if term[0] == "tup":
            return mk(f"T{len(term[1])}", *[self.plain(part, env) for part in term[1]])
        return mk(term[1], *[self.plain(part, env) for part in term[2]])


# --- Terms: a variable is an int; everything else an App, one object for equal ones, whose first part is its name ----------

class App(tuple):
    """Shared, so that terms that repeat their parts stay small: equal ones are the same, and facts about them are known."""
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
    term = walk(term, sub)
    if type(term) is int or not term.vars or not sub:
        return term
    memo = {} if memo is None else memo
    found = memo.get(term)
    if found is None:
        found = memo[term] = mk(term[0], *[apply(part, sub, memo) for part in term[1:]])
    return found


def match(pattern, term, sub, seen=None):
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


# --- Translation of processes --------------------------------------------------------------------------------------------

class State:
    """Where a process stands: what it knows, what had to be received, the sessions and inputs so far, and the phase."""
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


class Translator:
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

    def fails(self, what, state):
        """Where a condition may not hold; one with a destructor may always fail."""
        if what[0] == "and":
            yield from self.fails(what[1], state)
            yield from self.fails(what[2], state)
        elif what[0] == "or":
            for after in self.fails(what[1], state):
                yield from self.fails(what[2], after)
        elif what[0] == "differ":
            yield from self.holds(("same", what[1], what[2]), state)
        elif what[2] == ("id", "true"):
            yield state
        else:
            yield from self.holds(("differ", what[1], what[2]), state)

    def emit(self, state, conclusion):
        self.clauses.append((state.hyps, conclusion, state.neqs))

    def channel(self, name, state, what):
        self.model.constant(name)
        if name in self.model.private:
            return mk(f"mess{state.phase}:{name}", what)
        return mk(f"att{state.phase}", what)

    def run(self, process, state):
        getattr(self, "run_" + {"in": "input", "if": "test", "let": "match"}.get(process[0], process[0]))(process, state)

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
        name = mk(f"n:{process[1]}{self.site(process, state)}", *state.sids)
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
        received = state.copy(hyps=state.hyps + (self.channel(process[1], state, got),), params=state.params + (got,))
        for after in self.matches(process[2], got, received):
            self.run(process[3], after)

    def run_match(self, process, state):
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
        self.model.function(process[1], len(process[2]))
        name, rest, site = process[1], process[3], self.site(process, state)
        for after, values in self.values(process[2], state):
            if name in self.begins:
                record = mk(f"at{site}", *after.sids) if name in self.injective else mk("at")
                after = after.copy(hyps=after.hyps + (mk("ev:" + name, mk("args", *values), record),))
            for number, injective in self.ends.get(name, ()):
                sids = mk("sid", *after.sids) if injective else mk("sid")
                self.emit(after, mk(f"goal{number}", mk(name, *values), sids))
            self.run(rest, after)


# --- Saturation ----------------------------------------------------------------------------------------------------------

class Clause:
    __slots__ = ("hyps", "conc", "neqs", "sel", "vars", "keys")


class Solver:
    def __init__(self, model, phases):
        self.model, self.phases = model, phases
        self.by_conc, self.by_sel, self.all = defaultdict(list), defaultdict(list), defaultdict(list)
        self.queue, self.units = defaultdict(list), defaultdict(list)

    def public(self, term):
        return len(term) == 1 and term[0][:2] == "c:" and term[0][2:] not in self.model.private

    def restrict(self, hyps):
        """The substitutions that the restrictions demand: (possible, substitution or None)."""
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
        """None if the clause says nothing; otherwise its simplest form."""
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
        uses = defaultdict(int)
        for fact in flat + [conc]:
            for var in variables(fact, set()):
                uses[var] += 1
        flat = [f for f in flat if not (is_att(f) and type(f[1]) is int and uses[f[1]] == 1)]
        return flat, conc, kept

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
        if term in known:
            return True
        if type(term) is int:
            return False
        if self.public(term) or any(match(unit, term, {}) for unit in self.units[att, term[0]]):
            return True
        built = term[0] in self.model.funs or (term[0][0] == "T" and term[0][1:].isdigit())
        return built and all(self.makes(att, part, known) for part in term[1:])

    def add(self, hyps, conc, neqs):
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
        return (fact[0], fact[1] if type(fact[1]) is int else fact[1][0]) if type(fact[1]) is not int else (fact[0], None)

    def subsumes(self, one, two):
        if len(one.hyps) > len(two.hyps) or not one.keys <= two.keys:
            return False
        sub = {}
        if not match(one.conc, two.conc, sub):
            return False
        return self.cover(one.hyps, two, sub, one.neqs)

    def cover(self, hyps, two, sub, neqs):
        if not hyps:
            return all(any((match_apply(a, sub), match_apply(b, sub)) in ((c, d), (d, c)) for c, d in two.neqs)
                       for a, b in neqs)
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
        neqs = [(bound(moved(a)), bound(moved(b))) for a, b in rule.neqs] + [(bound(a), bound(b)) for a, b in goal.neqs]
        self.add(hyps, bound(goal.conc), neqs)

    def candidates(self, index, key):
        pred, head = key
        if head is None:
            return [c for (p, _), found in list(index.items()) if p == pred for c in list(found)]
        return list(index.get(key, ())) + list(index.get((pred, None), ()))

    def saturate(self, limit=None):
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
            for old in self.candidates(self.all, key) if key[1] is not None else \
                    [c for k, found in self.all.items() if k[0] == key[0] for c in found]:
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


# --- Queries -------------------------------------------------------------------------------------------------------------

def instance(clause, left):
    """The clause where its conclusion is what the query asks about; None if it never is."""
    if left[0] == "attacker":
        return clause
    sub = {}
    want = shift(mk(left[1], *left[2]), clause.vars)
    if not unify(want, clause.conc[1], sub):
        return None
    same = Clause()
    same.hyps, same.conc = [apply(fact, sub) for fact in clause.hyps], apply(clause.conc, sub)
    same.neqs, same.sel = [], None
    same.vars = 1 + max(variables(mk("all", same.conc, *same.hyps), {0}))
    return same


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
    """Two ends in two sessions never have one begin."""
    for one, ones in finals:
        for two, twos in finals:
            by = one.vars
            if not any(separate(solver, one, first, two, second, by) for first in ones for second in twos):
                return False
    return True


def separate(solver, one, first, two, second, by):
    sub = {}
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
    left, right = query
    finals = [c for key, found in solver.all.items() if key[0] == f"goal{number}" for c in found if c.sel is None]
    finals = [clause for clause in (instance(clause, left[0]) for clause in finals) if clause]
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
    if not isinstance(process, (tuple, list)):
        return 0
    own = process[1] if process and process[0] == "phase" else 0
    return max([own] + [highest_phase(part) for part in process])


def prove(source, limit=None):
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
            solver.add([mk(f"att{phases - 1}", left[0][1])], mk(f"goal{number}", mk("attacker"), mk("sid")), [])
    for hyps, conc, neqs in translator.clauses:
        solver.add(list(hyps), conc, list(neqs))
    done = solver.saturate(limit)
    return [("proved" if verdict(solver, number, query) else "open") if done else "unfinished"
            for number, query in enumerate(model.queries)], solver


def main():
    global VERBOSE
    args = sys.argv[1:]
    while args and args[0] == "-v":
        VERBOSE += 1
        args.pop(0)
    results, _ = prove(open(args[0]).read())
    print("\n".join(results))


if __name__ == "__main__":
    main()
