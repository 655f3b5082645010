"""Section "Still there" of sts-protocol(7): questions and answers about sessions."""
import sessions
from frames import QUESTION, RDYACK, RDYREQ
from primitives import hmac, same

ROLE = {"master": 1, "slave": 2}
OTHER = {"master": "slave", "slave": "master"}
ASK, HERE, LOST, DELETED = b"sts2 still there", b"sts2 still here", b"sts2 lost", b"sts2 deleted"


def frame(frame_type, label, confirm, sid, fresh, asked, asker):
    """`asker` is the role of the device that asks, in the question and in its answer."""
    text = sid + fresh + asked
    return bytes([frame_type]) + text + hmac(confirm, label + text + bytes([ROLE[asker]]))


def question(session, fresh, asked):
    return frame(RDYREQ, ASK, bytes.fromhex(session["confirm"]), bytes.fromhex(session["id"]),
                 fresh, asked, session["role"])


def answer(state, data, now, broken=()):
    """The answer to a question, or None if it is not authentic.

    `broken` names sessions of which the receiver has lost its state.
    """
    if len(data) != QUESTION or data[0] != RDYREQ:
        return None
    sid, fresh, asked = data[1:9], data[9:25], data[25:33]
    s = sessions.find(state, sid)
    if not s:
        return None
    asker, key = OTHER[s["role"]], bytes.fromhex(s["confirm"])
    if not same(data, frame(RDYREQ, ASK, key, sid, fresh, asked, asker)):
        return None
    if s["standing"] == "pending":
        sessions.make_current(state, s, now)
    about = sessions.find(state, asked)
    has = about is not None and about["peer_key"] == s["peer_key"] and asked.hex() not in broken
    label = HERE if has else DELETED if asked.hex() in state["deleted"] else LOST
    return frame(RDYACK, label, key, sid, fresh, asked, asker)


def read_answer(session, data, fresh, asked):
    """'here', 'lost', 'deleted', or None if it is no authentic answer to this question."""
    key, sid = bytes.fromhex(session["confirm"]), bytes.fromhex(session["id"])
    for label, word in ((HERE, "here"), (LOST, "lost"), (DELETED, "deleted")):
        if same(data, frame(RDYACK, label, key, sid, fresh, asked, session["role"])):
            return word
    return None
