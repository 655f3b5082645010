#!/usr/bin/env python3
"""Write the ProVerif models of sts-protocol(7) into a directory.

Usage: generate.py DIRECTORY

Every model is built from the parts below and from the letfuns of `schedule`. MODELS lists each model with its queries
and what each must come out as; `run` compares. A query that must come out false shows that the model can fail.
"""
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent

HEAD = """(* sts-protocol(7): NOTE
   Attackers own the broker. `topics` are both topics, `about` is the features and the name of a device. *)
free c: channel.
fun dhpk(bitstring): bitstring. fun dh(bitstring, bitstring): bitstring.
equation forall x: bitstring, y: bitstring; dh(x, dhpk(y)) = dh(y, dhpk(x)).
fun kpk(bitstring): bitstring. fun kct(bitstring, bitstring): bitstring. fun kss(bitstring, bitstring): bitstring.
reduc forall s: bitstring, r: bitstring; kdec(s, kct(kpk(s), r)) = kss(kpk(s), r).
fun pk(bitstring): bitstring. fun sign(bitstring, bitstring): bitstring.
reduc forall k: bitstring, m: bitstring; getmess(sign(k, m)) = m.
reduc forall k: bitstring, m: bitstring; checksign(sign(k, m), m, pk(k)) = true.
fun aead(bitstring, bitstring, bitstring): bitstring.
reduc forall k: bitstring, a: bitstring, m: bitstring; aopen(k, a, aead(k, a, m)) = m.
fun h(bitstring): bitstring. fun ext(bitstring, bitstring): bitstring. fun expd(bitstring, bitstring): bitstring.
fun mac(bitstring, bitstring): bitstring.
const INITREQ, INITACK, AUTHREQ, AUTHACK, RDYREQ, RDYACK, ENC, KILL, WILL: bitstring.
const AGREED, DIFFERS, UNPINNABLE, ALONE, LOW, HIGH, MASTER, SLAVE, X, R, P, ZERO, ONE, TWO, THREE: bitstring.
const DATA, CONFIRM, REFUSED, SACK, ENDED, KILLED, CONTINUES, M2S, S2M: bitstring.
free skA, skB: bitstring [private].
"""

# --- The handshake with pinned keys ----------------------------------------------------------------------------------

AGREE_M = ("query pm: bitstring, ps: bitstring, t: bitstring, fm: bitstring, fs: bitstring, k: bitstring; "
           "inj-event(MasterCurrent(pm, ps, t, fm, fs, k)) ==> inj-event(SlavePending(pm, ps, t, fm, fs, k)).")
AGREE_S = ("query pm: bitstring, ps: bitstring, t: bitstring, fm: bitstring, fs: bitstring, k: bitstring; "
           "inj-event(SlaveCurrent(pm, ps, t, fm, fs, k)) ==> inj-event(MasterCurrent(pm, ps, t, fm, fs, k)).")
AGREE_S_ONCE = AGREE_S.replace("inj-event", "event")
EVENTS = "\n".join(f"event {name}({', '.join(['bitstring'] * arity)})." for name, arity in
                   [("MasterCurrent", 6), ("SlavePending", 6), ("SlaveCurrent", 6), ("Once", 3), ("Exchange", 3),
                    ("Answered", 3), ("Asks", 1), ("SlaveDiffers", 4), ("MasterDiffers", 3), ("Began", 3), ("Asked", 3),
                    ("Answers", 3), ("Heard", 3), ("SaysLost", 3), ("HeardLost", 3),
                    ("SaysDeleted", 3), ("HeardDeleted", 3), ("Asking", 3), ("Refused", 2),
                    ("HeardRefusal", 2), ("SlaveCannot", 3), ("MasterCannot", 3)]) + "\n"
MEMORY = ("restriction e: bitstring, t: bitstring, i: bitstring, j: bitstring; "
          "event(Once(e, t, i)) && event(Once(e, t, j)) ==> i = j.\n")


def still(me, peer):
    """A device asks about a session and answers the peer's questions about it, with "here", "lost" or "deleted"."""
    return f"""
  | (new n: bitstring; in(c, asked: bitstring); event Asked(k2, n, {me});
     out(c, (RDYREQ, id(k2), n, asked, question(confirm(k2), (id(k2), n, asked, {me}))));
     in(c, (=RDYACK, =id(k2), =n, =asked, v: bitstring));
     if v = here(confirm(k2), (id(k2), n, asked, {me})) then event Heard(k2, (n, asked), {me})
     else if v = lost(confirm(k2), (id(k2), n, asked, {me})) then event HeardLost(k2, (n, asked), {me})
     else if v = deleted(confirm(k2), (id(k2), n, asked, {me})) then event HeardDeleted(k2, (n, asked), {me}))
  | (in(c, (=RDYREQ, =id(k2), n: bitstring, asked: bitstring, v: bitstring));
     if v = question(confirm(k2), (id(k2), n, asked, {peer})) then event Asking(k2, n, {peer});
     in(c, has: bitstring);
     if has = ONE then (event Answers(k2, (n, asked), {peer});
       out(c, (RDYACK, id(k2), n, asked, here(confirm(k2), (id(k2), n, asked, {peer})))))
     else if has = ZERO then (event SaysLost(k2, (n, asked), {peer});
       out(c, (RDYACK, id(k2), n, asked, lost(confirm(k2), (id(k2), n, asked, {peer})))))
     else (event SaysDeleted(k2, (n, asked), {peer});
       out(c, (RDYACK, id(k2), n, asked, deleted(confirm(k2), (id(k2), n, asked, {peer}))))))"""


def line(tree, secret):
    """The first frame of stream 0, with a line."""
    key = f"sealing_key(first_key(leaf_0({tree}(k2)), salt))"
    header = "(ENC, id(k2), ZERO, salt, ZERO)"
    return f"(new salt: bitstring; out(c, ({header}, aead({key}, {header}, (DATA, {secret})))))"


def handshake(batch_m=False, batch_s=False, differs=False, asks=False, lines=False, refusals=False, memory=True,
              cookie=True, bound=True, short=False, blind=False, leaks=(), code=False, cannot=False):
    leak = {name: f"out(c, {name});" if name in leaks else "" for name in ("x", "dk", "y", "r")}
    share_m, share_s, share = (", pA(px, code)", ", pB(py, code)", ", sh: bitstring") if code else ("", "", "")
    ireq_parts = f"(=INITREQ, rnd: bitstring, su: bitstring, gx: bitstring, ek: bitstring{share})"
    ikm_m, ikm_s = "shared(dh(x, gy), kdec(dk, ct))", "shared(dh(y, gx), kss(ek, r))"
    prk_m = f"prk_code(t1, {ikm_m}, kA(px, code, sh))" if code else f"prk(t1, {ikm_m})"
    prk_s = f"prk_code(t1, {ikm_s}, kB(py, code, sh))" if code else f"prk(t1, {ikm_s})"
    key_s, key_m = ("pks: bitstring", "pkm: bitstring") if code else ("=pks", "=pkm")
    own = "if pks <> pk(skm) then" if code else ""
    after_current = f"""event MasterCurrent(pk(skm), pks, (topics, suite), fm, fs, k2);
  out(c, (RDYACK, t1, step_7(confirm(k2), t3)));
  ( {line("tree_m2s", "lineM") if lines else "0"}{still("MASTER", "SLAVE") if asks else ""} )"""
    differ_m = """if verdict = DIFFERS then event MasterDiffers(pks, (topics, suite), su)
  else """ if differs else ""
    if cannot:
        differ_m = """if verdict = UNPINNABLE then event MasterCannot(pks, topics, su)
  else """
    refusal_m = """
  | (in(c, (=AUTHACK, =t1, reason: bitstring, v: bitstring));
     if v = mac(refusal(t1, ikm, t2), (AUTHACK, t1, reason)) then event HeardRefusal(t2, reason))""" if refusals else ""
    accepts = f"""if verdict = AGREED && su = suite then
  let t3 = th3(t2, aack) in
  let k2 = prk2(t3, k1) in
  out(c, (RDYREQ, t1, step_5(confirm(k2), t3)));
  in(c, (=RDYACK, =t1, v: bitstring)); if v = step_6(confirm(k2), t3) then
  {after_current}"""
    go_on = "accepted(skm, pks, topics, suite, fm, t1, k1, t2, aack, verdict, su, fs)"
    if batch_s:
        # A tree of two answers: the sibling is the lower or the higher of them.
        ways = [("ALONE", "leaf"), ("LOW", "node(sib, leaf)"), ("HIGH", "node(leaf, sib)")]
        verify_s = "let (side: bitstring, sib: bitstring) = path in\n  ( " + "\n  | ".join(
            f"(if side = {side} then if checksign(sg, signed_s({root}), pks) = true then {go_on})"
            for side, root in ways) + " )"
    else:
        verify_s = f"if path = ALONE then if checksign(sg, signed_s(leaf), pks) = true then\n  {go_on}"
    many = lambda *names: ", ".join(f"{name}: bitstring" for name in names)
    text = f"""
let accepted({many("skm", "pks", "topics", "suite", "fm", "t1", "k1", "t2", "aack", "verdict", "su", "fs")}) =
  {own} {differ_m}{accepts}.

let after({many("skm", "pks", "topics", "suite", "fm", "t1", "ikm", "k1", "areq")}) =
  let t2 = th2(t1, areq) in
  ( (in(c, aack: bitstring);
  let (=AUTHACK, =t1, sealed: bitstring) = aack in
  let (verdict: bitstring, su: bitstring, fs: bitstring, path: bitstring, {key_s}, sg: bitstring) =
    aopen(hs_s(k1, t2), (AUTHACK, t1), sealed) in
  let leaf = leaf_s(t2, (verdict, su), fs, pks) in
  {verify_s}){refusal_m} ).
"""
    begins = f"""new x: bitstring; new dk: bitstring; new rnd: bitstring;
  {"new px: bitstring;" if code else ""} {leak["x"]} {leak["dk"]}
  let ireq = (INITREQ, rnd, suite, dhpk(x), kpk(dk){share_m}) in
  event Asks(ireq); event Began(pk(skm), topics, suite);
  out(c, ireq);"""
    ack = "p" if blind or refusals else "c"
    if batch_m:
        text += f"""
let master({many("skm", "pks")}) =
  in(c, ({many("topics", "suite", "fm")}));
  {begins}
  in(c, ({many("a1", "a2")}));
  let (=INITACK, =h(ireq), ck1: bitstring, gy1: bitstring, ct1: bitstring) = a1 in
  let (=INITACK, =h(ireq), ck2: bitstring, gy2: bitstring, ct2: bitstring) = a2 in
  let t11 = th1(topics, ireq, a1) in
  let t12 = th1(topics, ireq, a2) in
  let leaf1 = leaf_m(t11, fm, pk(skm)) in
  let leaf2 = leaf_m(t12, fm, pk(skm)) in
  let sg = sign(skm, signed_m(node(leaf1, leaf2))) in
  ( (let ikm1 = shared(dh(x, gy1), kdec(dk, ct1)) in
     let areq = (AUTHREQ, t11, ck1, ireq, aead(hs_m(prk(t11, ikm1)), (AUTHREQ, t11, ck1, ireq),
                                             (fm, (HIGH, leaf2), pk(skm), sg))) in
     out(c, areq); after(skm, pks, topics, suite, fm, t11, ikm1, prk(t11, ikm1), areq))
  | (let ikm2 = shared(dh(x, gy2), kdec(dk, ct2)) in
     let areq = (AUTHREQ, t12, ck2, ireq, aead(hs_m(prk(t12, ikm2)), (AUTHREQ, t12, ck2, ireq),
                                             (fm, (LOW, leaf1), pk(skm), sg))) in
     out(c, areq); after(skm, pks, topics, suite, fm, t12, ikm2, prk(t12, ikm2), areq)) ).
"""
    else:
        text += f"""
let master({many("skm", "pks")}) =
  in(c, ({many("topics", "suite", "fm")}));
  {begins}
  in({ack}, iack: bitstring);
  let (=INITACK, =h(ireq), ck: bitstring, gy: bitstring, ct: bitstring{share}) = iack in
  let t1 = th1(topics, ireq, iack) in
  let ikm = shared(dh(x, gy), kdec(dk, ct)) in
  let k1 = {prk_m} in
  let leaf = leaf_m(t1, fm, pk(skm)) in
  let sealed = aead(hs_m(k1), (AUTHREQ, t1, ck, ireq), (fm, ALONE, pk(skm), sign(skm, signed_m(leaf)))) in
  let areq = (AUTHREQ, t1, ck, ireq, sealed) in
  out(c, areq){"" if short else "; after(skm, pks, topics, suite, fm, t1, ikm, k1, areq)"}.
"""
    once = "new once: bitstring; event Once(epoch, t1, once);"
    if code:
        once = "if pkm <> pk(sks) then " + once
    ready = f"""let t3 = th3(t2, aack) in
  let k2 = prk2(t3, k1) in
  out(c, aack);
  in(c, (=RDYREQ, =t1, v: bitstring)); if v = step_5(confirm(k2), t3) then
  event SlavePending(pkm, pk(sks), (topics, suite), fm, fs, k2);
  out(c, (RDYACK, t1, step_6(confirm(k2), t3)));
  in(c, (=RDYACK, =t1, w: bitstring)); if w = step_7(confirm(k2), t3) then
  event SlaveCurrent(pkm, pk(sks), (topics, suite), fm, fs, k2); out(c, (RDYACK, t1, step_8(confirm(k2), t3)));
  ( {line("tree_s2m", "lineS") if lines else "0"}{still("SLAVE", "MASTER") if asks else ""} )"""
    seal = lambda verdict, path, signature: (f"(AUTHACK, t1, aead(hs_s(k1, t2), (AUTHACK, t1), "
                                             f"({verdict}, suite, fs, {path}, pk(sks), {signature})))")
    alone = lambda verdict: f"sign(sks, signed_s(leaf_s(t2, ({verdict}, suite), fs, pk(sks))))"
    other = ""
    path_alone = "(ALONE, ALONE)" if batch_s else "ALONE"
    if differs:
        other = f"""if su <> suite then
    (event SlaveDiffers(pkm, pk(sks), (topics, su), suite); out(c, {seal("DIFFERS", path_alone, alone("DIFFERS"))}))
  else """
    if cannot:
        other = f"""in(c, pinned: bitstring); if pinned = ZERO then
    (event SlaveCannot(pk(sks), topics, suite); out(c, {seal("UNPINNABLE", path_alone, alone("UNPINNABLE"))}))
  else """
    text += f"""
let ready({many("sks", "pkm", "suite", "fs", "fm", "topics", "t1", "k1", "t2", "aack")}) =
  {ready}.

let finish({many("sks", "pkm", "suite", "fs", "fm", "topics", "t1", "k1", "areq", "su")}) =
  let t2 = th2(t1, areq) in
  {other}if su = suite then
  let aack = {seal("AGREED", path_alone, alone("AGREED"))} in
  ready(sks, pkm, suite, fs, fm, topics, t1, k1, t2, aack).
"""
    # The second form is good on any topics: `cookie-unbound` shows what that allows.
    baked = "cookie(epoch, topics, ireq)" if bound else "mac(epoch, (sts2_cookie, h(ireq)))"
    derive = f"""let seed = mac(epoch, ireq) in let y = expd(seed, X) in let r = expd(seed, R) in
      {"let py = expd(seed, P) in" if code else ""}
      let iack = (INITACK, h(ireq), {baked}, dhpk(y), kct(ek, r){share_s}) in"""
    send_ack = "out(p, iack)" if blind else "out(c, iack); out(p, iack)" if refusals else "out(c, iack)"
    test_cookie = (f"if ck = {baked} then " if cookie else "") + "event Exchange(epoch, topics, ireq);"
    refuse = """
      | (let t2 = th2(t1, areq) in event Refused(t2, ONE);
         let ikm = shared(dh(y, gx), kss(ek, r)) in
         out(c, (AUTHACK, t1, ONE, mac(refusal(t1, ikm, t2), (AUTHACK, t1, ONE)))))""" if refusals else ""
    received = f"""in(c, (topics: bitstring, areq: bitstring));
      let (=AUTHREQ, t1: bitstring, ck: bitstring, ireq: bitstring, sealed: bitstring) = areq in
      let {ireq_parts} = ireq in
      {test_cookie}"""
    opened = lambda then: f"""{received} 0""" if short else f"""{received}
      {derive}
      if t1 = th1(topics, ireq, iack) then
      let k1 = {prk_s} in
      ( ({then}){refuse} )"""
    if batch_m:
        verify = """let (fm: bitstring, (side: bitstring, sib: bitstring), =pkm, sg: bitstring) =
        aopen(hs_m(k1), (AUTHREQ, t1, ck, ireq), sealed) in
      let leaf = leaf_m(t1, fm, pkm) in
      ONCE
      ( (if side = LOW then if checksign(sg, signed_m(node(sib, leaf)), pkm) = true then GO)
      | (if side = HIGH then if checksign(sg, signed_m(node(leaf, sib)), pkm) = true then GO) )"""
    else:
        verify = f"""let (fm: bitstring, =ALONE, {key_m}, sg: bitstring) =
        aopen(hs_m(k1), (AUTHREQ, t1, ck, ireq), sealed) in
      if checksign(sg, signed_m(leaf_m(t1, fm, pkm)), pkm) = true then
      ONCE GO"""
    verify = verify.replace("ONCE", once)
    go = "finish(sks, pkm, suite, fs, fm, topics, t1, k1, areq, su)"
    answers = f"(!{opened(verify.replace('GO', go))})"
    if batch_s:
        # Verified attempts reach the signer by a private channel, once as the one that it answers, and once as the one
        # beside it. It answers each once: that it remembers what it answered is the second Once.
        to_signer = ("if su = suite then let t2 = th2(t1, areq) in "
                     "(out(q, (epoch, pkm, fm, topics, t1, k1, t2)) | out(p, (epoch, t2)))")
        answers = f"(!{opened(verify.replace('GO', to_signer))})"
        leaf = lambda th: f"leaf_s({th}, (AGREED, suite), fs, pk(sks))"
        for side, root in (("HIGH", f"node({leaf('t2')}, {leaf('beside')})"),
                           ("LOW", f"node({leaf('beside')}, {leaf('t2')})")):
            answers += f"""
  | (!in(q, (=epoch, {many("pkm", "fm", "topics", "t1", "k1", "t2")})); in(p, (=epoch, beside: bitstring));
      new once: bitstring; event Once((epoch, ALONE), t1, once);
      let sg = sign(sks, signed_s({root})) in
      let aack = {seal("AGREED", f"({side}, {leaf('beside')})", "sg")} in
      ready(sks, pkm, suite, fs, fm, topics, t1, k1, t2, aack))"""
    text += f"""
let slave({many("sks", "pkm") if not code else many("sks")}) =
  in(c, ({many("suite", "fs")})); new epoch: bitstring;
  ( (!in(c, (topics: bitstring, ireq: bitstring)); let {ireq_parts} = ireq in
      {derive}
      {leak["y"]} {leak["r"]} {"event Answered(epoch, topics, ireq); " if short else ""}{send_ack})
  | {answers} ).
"""
    private = "free p, q: channel [private].\nfree lineM, lineS: bitstring [private].\n"
    return private + EVENTS + (MEMORY if memory else ""), text


FIXED = "!master(skA, pk(skB)) | !slave(skB, pk(skA))"
ROLES = FIXED + " | !master(skB, pk(skA)) | !slave(skA, pk(skB))"
# The attacker's own key is pinned on both.
PINNED = FIXED + " | !master(skA, pk(skE)) | !slave(skB, pk(skE))"
HONEST = lambda query: query.replace("pm: bitstring, ps: bitstring, ", "").replace("(pm, ps,", "(pk(skA), pk(skB),")


def main(roles=FIXED, known="", later=""):
    leaks = f" | phase 1; out(c, ({later}))" if later else ""
    return f"\nprocess\n  out(c, (pk(skA), pk(skB))); {known}\n  ( {roles}{leaks} )\n"


CODE_HEAD = """fun pA(bitstring, bitstring): bitstring. fun pB(bitstring, bitstring): bitstring.
fun kA(bitstring, bitstring, bitstring): bitstring. fun kB(bitstring, bitstring, bitstring): bitstring.
equation forall x: bitstring, y: bitstring, w: bitstring; kA(x, w, pB(y, w)) = kB(y, w, pA(x, w)).
free code: bitstring [private].
"""
CODE = "!master(skA, ALONE) | !slave(skB)"
SECRET = lambda *names: [f"query attacker({name})." for name in names]


# --- Streams, under the keys of a session that the handshake agreed on -----------------------------------------------

STREAM_EVENTS = "\n".join(f"event {name}({', '.join(['bitstring'] * arity)})." for name, arity in
                          [("Sent", 7), ("Got", 7), ("Once", 3), ("Kills", 2), ("Killed", 2), ("Wrote", 4),
                           ("Confirmed", 4), ("Refuses", 4), ("HeardRefused", 4), ("Keeps", 4), ("HeardSack", 4),
                           ("SaysEnded", 4), ("ToldEnd", 4), ("SaysLone", 5), ("ToldLone", 5),
                           ("Says", 4), ("Believes", 4), ("SaysContinues", 7), ("Placed", 7), ("Given", 5),
                           ("WillTaken", 5), ("LateWill", 2)]) + "\n"
ONCE = MEMORY
# The tree stands for one function of its number here; the models of thieves have the paths themselves.
LEAF = "fun leaf(bitstring, bitstring): bitstring.\n"
KEY = lambda tree: f"sealing_key(first_key(leaf({tree}(s), n), salt))"
HEADER = "(ENC, id(s), n, salt, seq)"


def streams():
    """Data of both directions, by any number of processes and of copies; the receiver remembers what it accepted."""
    both = ""
    for tree, direction in (("tree_m2s", "M2S"), ("tree_s2m", "S2M")):
        both += f"""
let send_{direction}(s: bitstring) =
  in(c, (n: bitstring, seq: bitstring, kind: bitstring, m: bitstring)); new salt: bitstring;
  event Sent(s, {direction}, n, salt, seq, kind, m);
  out(c, ({HEADER}, aead({KEY(tree)}, {HEADER}, (kind, m)))).
let receive_{direction}(s: bitstring) =
  in(c, (header: bitstring, e: bitstring));
  let (=ENC, =id(s), n: bitstring, salt: bitstring, seq: bitstring) = header in
  let (kind: bitstring, m: bitstring) = aopen({KEY(tree)}, header, e) in
  new once: bitstring; event Once((s, {direction}), (n, seq), once);
  event Got(s, {direction}, n, salt, seq, kind, m).
"""
    return both + """
process !new s: bitstring; out(c, id(s)); ( !send_M2S(s) | !receive_M2S(s) | !send_S2M(s) | !receive_S2M(s) )
"""


GOT = ("query s: bitstring, d: bitstring, n: bitstring, salt: bitstring, seq: bitstring, k: bitstring, m: bitstring; "
       "inj-event(Got(s, d, n, salt, seq, k, m)) ==> inj-event(Sent(s, d, n, salt, seq, k, m)).")


def kill():
    return f"""
let send(s: bitstring) =
  in(c, (n: bitstring, seq: bitstring, next: bitstring)); new salt: bitstring; event Kills(s, next);
  let header = (KILL, id(s), n, salt, seq) in
  out(c, (header, aead({KEY("tree_m2s")}, header, (KILLED, next)))).
let receive(s: bitstring) =
  in(c, (header: bitstring, e: bitstring));
  let (=KILL, =id(s), n: bitstring, salt: bitstring, seq: bitstring) = header in
  let (=KILLED, next: bitstring) = aopen({KEY("tree_m2s")}, header, e) in
  new once: bitstring; event Once(s, ALONE, once); event Killed(s, next).
process !new s: bitstring; out(c, id(s)); ( !send(s) | !receive(s) )
"""


def confirms(salted):
    """A receiver writes, refuses or keeps what opens, and says so in a side stream; copies share a number."""
    stream, expected = ("n, salt", "=n, =salt") if salted else ("n", "=n")
    side = "sealing_key(side_key(side_s2m(s), sn, ss))"
    answer = lambda kind: f"out(c, (sh, aead({side}, sh, ({kind}, {stream}, seq))))"
    hear = lambda kind, event: (f"(let (={kind}, {expected}, =seq) = aopen({side}, sh, e) in "
                                f"event {event}(s, (n, salt), seq, m))")
    return f"""
let send(s: bitstring) =
  in(c, (n: bitstring, seq: bitstring)); new salt: bitstring; new m: bitstring;
  out(c, ({HEADER}, aead({KEY("tree_m2s")}, {HEADER}, (DATA, m))));
  in(c, (sh: bitstring, e: bitstring)); let (=ENC, =id(s), sn: bitstring, ss: bitstring, sq: bitstring) = sh in
  ( {hear("CONFIRM", "Confirmed")}
  | {hear("REFUSED", "HeardRefused")}
  | {hear("SACK", "HeardSack")} ).
let receive(s: bitstring) =
  in(c, (header: bitstring, e: bitstring));
  let (=ENC, =id(s), n: bitstring, salt: bitstring, seq: bitstring) = header in
  let (=DATA, m: bitstring) = aopen({KEY("tree_m2s")}, header, e) in
  in(c, (sn: bitstring, sq: bitstring)); new ss: bitstring;
  let sh = (ENC, id(s), sn, ss, sq) in
  ( (event Wrote(s, (n, salt), seq, m); {answer("CONFIRM")})
  | (event Refuses(s, (n, salt), seq, m); {answer("REFUSED")})
  | (event Keeps(s, (n, salt), seq, m); {answer("SACK")}) ).
process !new s: bitstring; out(c, id(s)); ( !send(s) | !receive(s) )
"""


CONFIRMED = ("query s: bitstring, n: bitstring, seq: bitstring, m: bitstring; "
             "event(Confirmed(s, n, seq, m)) ==> event(Wrote(s, n, seq, m)).")
REFUSED = CONFIRMED.replace("Confirmed", "HeardRefused").replace("Wrote", "Refuses")
SACK = CONFIRMED.replace("Confirmed", "HeardSack").replace("Wrote", "Keeps")
# What is only kept, the sender must not forget.
KEPT_ONLY = CONFIRMED.replace("Wrote", "Keeps")


def history(own):
    """What a frame says of a session, in its preamble or as a continued; `item` says which of them, `what` is the rest.

    The receiver has two peers, A and the attacker E. It stores in `sessions` which session it has with which peer, and
    looks the id up among those with the peer that sent the frame, or among all.
    """
    stored, about = ("(=peer, =sid)", "peer") if own else ("(owner: bitstring, =sid)", "owner")
    return f"""
let send(s: bitstring, old: bitstring) =
  in(c, (n: bitstring, item: bitstring, what: bitstring)); new salt: bitstring;
  event Says(A, item, id(old), what);
  let header = (ENC, id(s), n, salt, ZERO) in
  out(c, (header, aead({KEY("tree_m2s")}, header, (item, id(old), what)))).
let receive(peer: bitstring, s: bitstring) =
  in(c, (header: bitstring, e: bitstring)); let (=ENC, =id(s), n: bitstring, salt: bitstring, =ZERO) = header in
  let (item: bitstring, sid: bitstring, what: bitstring) = aopen({KEY("tree_m2s")}, header, e) in
  in(sessions, {stored});
  event Believes({about}, item, sid, what).
process
  ( (!new old: bitstring; new s: bitstring; out(c, (id(old), id(s)));
     ( (!out(sessions, (A, id(old)))) | (!out(sessions, (A, id(s)))) | !send(s, old) | !send(s, s) | !receive(A, s) ))
  | (!in(c, s: bitstring); ( (!out(sessions, (E, id(s)))) | !receive(E, s) )) )
"""


PEERS = "free sessions: channel [private].\nconst A, E: bitstring.\n"
BELIEVED = ("query item: bitstring, sid: bitstring, what: bitstring; "
            "event(Believes(A, item, sid, what)) ==> event(Says(A, item, sid, what)).")


def continues(salted):
    """An origin n with its salt; a stream n2 that continues it; any number of copies do both under the same numbers."""
    named = "(CONTINUES, id(s), n, salt, pos)" if salted else "(CONTINUES, id(s), n, pos)"
    expect = "(=CONTINUES, =id(s), =n, =salt, pos: bitstring)" if salted else "(=CONTINUES, =id(s), =n, pos: bitstring)"
    key2 = "sealing_key(first_key(leaf(tree_m2s(s), n2), salt2))"
    return f"""
let send(s: bitstring) =
  in(c, (n: bitstring, n2: bitstring, pos: bitstring)); new salt: bitstring; new salt2: bitstring; new m: bitstring;
  let header = (ENC, id(s), n, salt, ZERO) in
  out(c, (header, aead({KEY("tree_m2s")}, header, (DATA, m))));
  event SaysContinues(s, n, salt, n2, salt2, pos, m);
  let header2 = (ENC, id(s), n2, salt2, ZERO) in
  out(c, (header2, aead({key2}, header2, ({named}, m)))).
let receive(s: bitstring) =
  in(c, (header: bitstring, e: bitstring)); let (=ENC, =id(s), n: bitstring, salt: bitstring, =ZERO) = header in
  let (=DATA, m0: bitstring) = aopen({KEY("tree_m2s")}, header, e) in
  in(c, (header2: bitstring, e2: bitstring)); let (=ENC, =id(s), n2: bitstring, salt2: bitstring, =ZERO) = header2 in
  let ({expect}, m: bitstring) = aopen({key2}, header2, e2) in
  event Placed(s, n, salt, n2, salt2, pos, m).
process !new s: bitstring; out(c, id(s)); ( !send(s) | !receive(s) )
"""


PLACED = ("query s: bitstring, n: bitstring, a: bitstring, n2: bitstring, b: bitstring, pos: bitstring, m: bitstring; "
          "event(Placed(s, n, a, n2, b, pos, m)) ==> event(SaysContinues(s, n, a, n2, b, pos, m)).")


def ended(salted):
    """The first frame of stream n2 says with which count stream n ended. Whether or not anything of stream n came, the
    receiver then knows what of it is lost; any number of copies do both under the same numbers."""
    said = "(ENDED, id(s), n, salt, count)" if salted else "(ENDED, id(s), n, count)"
    lone = "(=ENDED, =id(s), =n, salt: bitstring, count: bitstring)" if salted \
        else "(=ENDED, =id(s), =n, count: bitstring)"
    key2 = "sealing_key(first_key(leaf(tree_m2s(s), n2), salt2))"
    return f"""
let send(s: bitstring) =
  in(c, (n: bitstring, n2: bitstring)); new salt: bitstring; new salt2: bitstring;
  new m: bitstring; new count: bitstring;
  let header = (ENC, id(s), n, salt, ZERO) in
  out(c, (header, aead({KEY("tree_m2s")}, header, (DATA, m))));
  event SaysEnded(s, n, salt, count);
  event SaysLone(s, n, count, n2, salt2);
  let header2 = (ENC, id(s), n2, salt2, ZERO) in
  out(c, (header2, aead({key2}, header2, {said}))).
let receive(s: bitstring) =
  in(c, (header: bitstring, e: bitstring)); let (=ENC, =id(s), n: bitstring, salt: bitstring, =ZERO) = header in
  let (=DATA, m: bitstring) = aopen({KEY("tree_m2s")}, header, e) in
  in(c, (header2: bitstring, e2: bitstring)); let (=ENC, =id(s), n2: bitstring, salt2: bitstring, =ZERO) = header2 in
  let {lone.replace("salt: bitstring", "=salt")} = aopen({key2}, header2, e2) in
  event ToldEnd(s, n, salt, count).
let receive_lone(s: bitstring) =
  in(c, (n: bitstring, header2: bitstring, e2: bitstring));
  let (=ENC, =id(s), n2: bitstring, salt2: bitstring, =ZERO) = header2 in
  let {lone} = aopen({key2}, header2, e2) in
  event ToldLone(s, n, count, n2, salt2).
process !new s: bitstring; out(c, id(s)); ( !send(s) | !receive(s) | !receive_lone(s) )
"""


TOLD = ("query s: bitstring, n: bitstring, salt: bitstring, count: bitstring; "
        "event(ToldEnd(s, n, salt, count)) ==> event(SaysEnded(s, n, salt, count)).")
TOLD_LONE = ("query s: bitstring, n: bitstring, count: bitstring, n2: bitstring, salt2: bitstring; "
             "event(ToldLone(s, n, count, n2, salt2)) ==> event(SaysLone(s, n, count, n2, salt2)).")


def will():
    key = "will_seal(will_key(leaf(tree_m2s(s), n)), salt)"
    return f"""
let send(s: bitstring) =
  in(c, (n: bitstring, seq: bitstring, w: bitstring)); new salt: bitstring; event Given(s, n, salt, seq, w);
  let header = (WILL, id(s), n, salt, seq) in out(c, (header, aead({key}, header, w))).
let receive(s: bitstring) =
  in(c, (header: bitstring, e: bitstring));
  let (=WILL, =id(s), n: bitstring, salt: bitstring, seq: bitstring) = header in
  let w = aopen({key}, header, e) in
  new once: bitstring; event Once(s, (n, seq), once); event WillTaken(s, n, salt, seq, w).
process !new s: bitstring; out(c, id(s)); ( !send(s) | !receive(s) )
"""


WILL_ONCE = ("query s: bitstring, n: bitstring, salt: bitstring, seq: bitstring, w: bitstring; "
             "inj-event(WillTaken(s, n, salt, seq, w)) ==> inj-event(Given(s, n, salt, seq, w)).")
WILLS = "free w0, w1, w2: bitstring [private].\n"
SECRETS = ["s0", "s1_0", "s1_1", "s2", "s3", "w0", "w1", "back"]
STOLEN = f"free {', '.join(SECRETS)}: bitstring [private].\n"


def recorded():
    """What a device sends in streams 0 to 3, and its wills of 0 and 1; `s1_1` is in the second part of stream 1.

    `back` is what the other device sends.
    """
    frame = lambda type_, n, seq, key, secret: (
        f"(let header = ({type_}, id(s), {n}, salt{n}, {seq}) in out(c, (header, aead({key}, header, {secret}))))")
    first = lambda leaf, n: f"first_key({leaf}(tree_m2s(s)), salt{n})"
    return "\n  | ".join([
        frame("ENC", "ZERO", "ZERO", f"sealing_key({first('leaf_0', 'ZERO')})", "s0"),
        frame("ENC", "ONE", "ZERO", f"sealing_key({first('leaf_1', 'ONE')})", "s1_0"),
        frame("ENC", "ONE", "ONE", f"sealing_key(next_key({first('leaf_1', 'ONE')}))", "s1_1"),
        frame("ENC", "TWO", "ZERO", f"sealing_key({first('leaf_2', 'TWO')})", "s2"),
        frame("ENC", "THREE", "ZERO", f"sealing_key({first('leaf_3', 'THREE')})", "s3"),
        frame("WILL", "ZERO", "ZERO", "will_seal(will_key(leaf_0(tree_m2s(s))), saltZERO)", "w0"),
        frame("WILL", "ONE", "ZERO", "will_seal(will_key(leaf_1(tree_m2s(s))), saltONE)", "w1"),
        "(let header = (ENC, id(s), ZERO, saltTWO, ZERO) in out(c, (header, "
        "aead(sealing_key(first_key(leaf_0(tree_s2m(s)), saltTWO)), header, back))))"])


def thief(directory):
    return f"""
process !new s: bitstring;
  new saltZERO: bitstring; new saltONE: bitstring; new saltTWO: bitstring; new saltTHREE: bitstring;
  out(c, (id(s), saltZERO, saltONE, saltTWO, saltTHREE));
  ( {recorded()}
  | phase 1; out(c, ({", ".join(directory)})) )
"""


ALWAYS = ["side_m2s(s)", "side_s2m(s)", "confirm(s)"]
# Stream 0 has ended, stream 1 is in its second part, 2 and 3 are to come; back is received under the tree that leads to
# it.
RECEIVER = ["leaf_2(tree_m2s(s))", "node_11(tree_m2s(s))", "next_key(first_key(leaf_1(tree_m2s(s)), saltONE))",
            "will_key(leaf_1(tree_m2s(s)))", "node_1(tree_s2m(s))"] + ALWAYS
# Numbers 0 and 1 are taken; 1 is being sent, with its keys in memory only.
SENDER = ["leaf_2(tree_m2s(s))", "node_11(tree_m2s(s))", "node_1(tree_s2m(s))"] + ALWAYS


def late_will():
    """After stream 0 ended, the receiver takes whatever WILL opens under a node that it still has, as any number."""
    give = lambda n, leaf, w: (f"(let header = (WILL, id(s), {n}, salt, ZERO) in "
                               f"out(c, (header, aead(will_seal(will_key({leaf}(tree_m2s(s))), salt), header, {w}))))")
    take = lambda leaf: (f"(phase 1; in(c, (header: bitstring, e: bitstring)); "
                         f"let (=WILL, =id(s), n: bitstring, hs: bitstring, seq: bitstring) = header in "
                         f"let w = aopen(will_seal(will_key({leaf}), hs), header, e) in event LateWill(n, w))")
    return f"""
process !new s: bitstring; new salt: bitstring; out(c, (id(s), salt));
  ( {give("ZERO", "leaf_0", "w0")} | {give("ONE", "leaf_1", "w1")} | {give("TWO", "leaf_2", "w2")}
  | {take("leaf_1(tree_m2s(s))")} | {take("leaf_2(tree_m2s(s))")} | {take("leaf_3(tree_m2s(s))")} )
"""


# --- The table -------------------------------------------------------------------------------------------------------

T, F = "true", "false"
MODELS = {}
# What takes horn.py more than 10 seconds of one quiet core.
SLOW = {"batch-master", "batch-slave", "still-there", "code", "code-identity", "code-known", "code-secrecy",
        "code-verdict"}
# That something happens at all: the left side of a query, alone.
REACHED = lambda query: query.split(" ==>")[0].replace("inj-event", "event") + "."


def model(name, note, queries, parts, process):
    """`queries`: pairs of a query and its expected result."""
    MODELS[name] = (note, queries, parts, process)


def pinned(name, note, queries, roles=FIXED, known="", later="", extra="", **options):
    declared, text = handshake(**options)
    model(name, note, queries, extra + declared, text + main(roles, known, later))


pinned("agree", "agreement on keys, topics, suite, features, names and session.", [(AGREE_M, T), (AGREE_S, T)])
pinned("agree-roles", "the same; each device plays both roles with its one key.",
       [(AGREE_M, T), (AGREE_S, T)], roles=ROLES)
pinned("agree-attacker", "the same between A and B, which have pinned an attacker as well.",
       [(HONEST(AGREE_M), T), (HONEST(AGREE_S), T)], roles=PINNED, extra="free skE: bitstring.\n")
pinned("agree-reach", "both ends get there.", [(REACHED(AGREE_M), F), (REACHED(AGREE_S), F)])
pinned("agree-restart", "the slave has lost its memory of attempts, but has its epoch key.",
       [(AGREE_M, T), (AGREE_S_ONCE, T), (AGREE_S, F)], memory=False)
pinned("batch-master", "one signature of the master under two attempts.",
       [(AGREE_M, T), (AGREE_S, T), (REACHED(AGREE_S), F)], batch_m=True)
pinned("batch-slave", "one signature of the slave under two answers.",
       [(AGREE_M, T), (AGREE_S, T), (REACHED(AGREE_M), F)], batch_s=True)
COOKIE = ("query e: bitstring, t: bitstring, u: bitstring, i: bitstring; "
          "event(Exchange(e, t, i)) ==> event(Answered(e, u, i)).")
TOPICS = "query e: bitstring, t: bitstring, i: bitstring; event(Exchange(e, t, i)) ==> event(Answered(e, t, i))."
BLIND = "query e: bitstring, t: bitstring, i: bitstring; event(Exchange(e, t, i)) ==> event(Asks(i))."
EXCHANGE = REACHED(BLIND)
pinned("cookie", "the slave exchanges keys only for an INITREQ that it answered, and only on the topics where it did.",
       [(TOPICS, T), (EXCHANGE, F)], short=True)
pinned("cookie-unbound", "the same if the cookie did not cover the topics: one that is good anywhere.",
       [(COOKIE, T), (TOPICS, F)], short=True, bound=False)
pinned("cookie-blind", "attackers that cannot read INITACK: only a master's INITREQ costs a key exchange.",
       [(BLIND, T), (EXCHANGE, F)], blind=True, short=True)
pinned("cookie-none", "the same without a cookie.", [(COOKIE, F), (BLIND, F)], blind=True, cookie=False, short=True)
pinned("verdict-agree", "agreement where a slave may say that suites differ.",
       [(AGREE_M, T), (AGREE_S, T)], differs=True)
pinned("verdict", "the verdict that suites differ.",
       [("query ps: bitstring, t: bitstring, su: bitstring, s: bitstring; "
         "event(MasterDiffers(ps, (t, s), su)) ==> event(SlaveDiffers(pk(skA), ps, (t, s), su)).", T),
        ("query pm: bitstring, ps: bitstring, t: bitstring, su: bitstring, s: bitstring; "
         "event(SlaveDiffers(pm, ps, (t, su), s)) ==> event(Began(pm, t, su)).", T),
        ("query ps: bitstring, t: bitstring, su: bitstring; event(MasterDiffers(ps, t, su)).", F)], differs=True)
pinned("refusal", "a refusal by the sender of the INITACK, of that AUTHREQ.",
       [("query t: bitstring, r: bitstring; event(HeardRefusal(t, r)) ==> event(Refused(t, r)).", T),
        ("query t: bitstring, r: bitstring; event(HeardRefusal(t, r)).", F)], refusals=True)
HEARD = "query k: bitstring, n: bitstring, r: bitstring; inj-event({0}(k, n, r)) ==> inj-event({1}(k, n, r))."
pinned("still-there", "questions whether the peer has a session.",
       [(HEARD.format("Heard", "Answers"), T), (HEARD.format("HeardLost", "SaysLost"), T),
        (HEARD.format("HeardDeleted", "SaysDeleted"), T),
        (HEARD.format("Asking", "Asked").replace("inj-event", "event"), T),
        ("query k: bitstring, n: bitstring, r: bitstring; event(HeardLost(k, n, r)).", F)], asks=True)
pinned("kci-master", "the master's own key is known: it is not fooled about the slave; the slave may be.",
       [(AGREE_M, T), (AGREE_S, F)], known="out(c, skA);")
pinned("kci-slave", "the slave's own key is known: it is not fooled about the master; the master may be.",
       [(AGREE_S, T), (AGREE_M, F)], known="out(c, skB);")
LINES = SECRET("lineM", "lineS")
both = lambda result: [(query, result) for query in LINES]
pinned("secrecy", "identity keys that leak later open nothing.", both(T), later="skA, skB", lines=True)
pinned("secrecy-x25519", "the same with X25519 broken from the start.",
       both(T), later="skA, skB", lines=True, leaks=("x", "y"))
pinned("secrecy-mlkem", "the same with ML-KEM broken from the start.",
       both(T), later="skA, skB", lines=True, leaks=("dk", "r"))
pinned("secrecy-none", "with both broken.", both(F), later="skA, skB", lines=True, leaks=("x", "y", "dk", "r"))
pinned("code", "enrolment: nobody has pinned anybody; agreement by the code.", [(AGREE_M, T), (AGREE_S, T)],
       roles=CODE, extra=CODE_HEAD, code=True)
pinned("code-identity", "enrolment with both identity keys known: the code alone is enough.",
       [(AGREE_M, T), (AGREE_S, T)], roles=CODE, known="out(c, (skA, skB));", extra=CODE_HEAD, code=True)
pinned("code-known", "enrolment with a known code.", [(AGREE_M, F), (AGREE_S, F)], roles=CODE, known="out(c, code);",
       extra=CODE_HEAD, code=True)
pinned("code-secrecy", "enrolment: identity keys and the code leak later.", both(T), roles=CODE, later="skA, skB, code",
       extra=CODE_HEAD, code=True, lines=True)
pinned("code-verdict", "enrolment: the verdict that the slave cannot pin the master.",
       [("query ps: bitstring, t: bitstring, s: bitstring; "
         "event(MasterCannot(ps, t, s)) ==> event(SlaveCannot(ps, t, s)).", T),
        ("query ps: bitstring, t: bitstring, s: bitstring; event(MasterCannot(ps, t, s)).", F)],
       roles=CODE, extra=CODE_HEAD, code=True, cannot=True)
pinned("code-guess", "enrolment: attackers cannot test guesses of the code offline. Only for ProVerif.",
       [("weaksecret code.", T)], roles=CODE, extra=CODE_HEAD, code=True, memory=False)

model("stream", "data both ways, any number of processes and copies: what is received was sent so, there, once.",
      [(GOT, T), (REACHED(GOT), F)], LEAF + STREAM_EVENTS + ONCE, streams())
model("stream-forgets", "the same without the receive state.", [(GOT, F), (GOT.replace("inj-event", "event"), T)],
      LEAF + STREAM_EVENTS, streams())
model("kill", "a KILL is the sender's, and ends a session once.",
      [("query s: bitstring, n: bitstring; inj-event(Killed(s, n)) ==> inj-event(Kills(s, n)).", T),
       ("query s: bitstring, n: bitstring; event(Killed(s, n)).", F)], LEAF + STREAM_EVENTS + ONCE, kill())
model("confirm", "what is confirmed, refused or in a sack was written, refused or kept, if directories were copied as well.",
      [(CONFIRMED, T), (REFUSED, T), (SACK, T), (KEPT_ONLY, F), (REACHED(CONFIRMED), F), (REACHED(REFUSED), F),
       (REACHED(SACK), F)],
      LEAF + STREAM_EVENTS, confirms(True))
model("confirm-copies", "the same if neither named the salt: a copy's stream would be confirmed.",
      [(CONFIRMED, F), (REFUSED, F), (SACK, F)], LEAF + STREAM_EVENTS, confirms(False))
model("history", "what the receiver believes that A said of a session of A, A said, whatever other peers say.",
      [(BELIEVED, T), (REACHED(BELIEVED), F)], LEAF + STREAM_EVENTS + PEERS, history(True))
model("history-any", "the same if a session id named a session with any peer.",
      [(BELIEVED, F)], LEAF + STREAM_EVENTS + PEERS, history(False))
model("continues", "a stream that is placed in a sequence continues it, if directories were copied as well.",
      [(PLACED, T), (REACHED(PLACED), F)], LEAF + STREAM_EVENTS, continues(True))
model("continues-copies", "the same if it did not name the salt: it would be placed in a copy's sequence.",
      [(PLACED, F)], LEAF + STREAM_EVENTS, continues(False))
model("ended", "what is told of the end of a stream, also of one that is lost whole, is true, with copies as well.",
      [(TOLD, T), (TOLD_LONE, T), (REACHED(TOLD), F), (REACHED(TOLD_LONE), F)], LEAF + STREAM_EVENTS, ended(True))
model("ended-copies", "the same if it did not name the salt: a copy's count would be taken for this stream's.",
      [(TOLD, F)], LEAF + STREAM_EVENTS, ended(False))
model("will", "a will is the sender's, and comes at most once for each connection.",
      [(WILL_ONCE, T), (REACHED(WILL_ONCE), F)], LEAF + STREAM_EVENTS + ONCE, will())
model("will-late", "after stream 0 ended, no will of it is accepted; one of an open stream is.",
      [("query w: bitstring; event(LateWill(ZERO, w)).", T), ("query event(LateWill(ONE, w1)).", F)],
      STREAM_EVENTS + WILLS, late_will())
model("thief-receiver", "the receiver's directory is stolen: what was received stays closed; the rest does not.",
      [(f"query attacker({name}).", F if name in ("s1_1", "s2", "s3", "w1") else T) for name in SECRETS],
      STOLEN, thief(RECEIVER))
model("thief-sender", "the sender's directory is stolen: what it began to send stays closed; the rest does not.",
      [(f"query attacker({name}).", F if name in ("s2", "s3") else T) for name in SECRETS], STOLEN, thief(SENDER))


def labels(text):
    """ProVerif has no text: a label becomes a constant."""
    return re.sub(r'"(sts2 [a-z0-9 ]*)"', lambda found: found.group(1).replace(" ", "_"), text)


def schedule():
    """The letfuns of `schedule`, with types, and a constant for each label."""
    lines = [line for line in (HERE / "schedule").read_text().splitlines() if line.startswith("letfun ")]
    types = lambda found: "(" + ", ".join(f"{name}: bitstring" for name in found.group(1).split(", ")) + ")"
    typed = "\n".join(re.sub(r"\(([a-z0-9_, ]*)\)", types, line, count=1) for line in lines)
    constants = sorted(set(re.findall(r'"sts2 [a-z0-9 ]*"', typed)))
    return labels(f"const {', '.join(constants)}: bitstring.\n{typed}\n")


def source(name):
    note, queries, parts, process = MODELS[name]
    return HEAD.replace("NOTE", note) + schedule() + parts + "\n".join(query for query, _ in queries) + "\n" + process


def write():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        (directory / f"{name}.pv").write_text(source(name))


if __name__ == "__main__":
    write()
