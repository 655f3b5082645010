//! A list of system calls as a program for the kernel (seccomp(2), `linux/bpf_common.h`).
//!
//! The program finds a call by binary search. The kernel runs it for each number that there is when it is installed, and a list
//! that is compared from its first entry to its last, as the library would make it, took 0.4 ms of each start.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

/// A condition on 32 bits of an argument: these of them have this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Where the kernel has them.
    offset: u32,
    bits: u32,
    value: u32,
}

/// What must all be so.
pub(super) type Rule = Vec<Condition>;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where the kernel has what a program looks at (struct `seccomp_data`).
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;
const ARGUMENT_LEN: u32 = 8;

const ALLOW: u32 = 0x7fff_0000;
/// An error, `ENOSYS`, which is 38 on each of these architectures.
const ABSENT: u32 = 0x0005_0026;

/// What becomes of the calls from a number on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treatment<'a> {
    Absent,
    Allowed,
    Limited(&'a [Rule]),
}

/// Calls that are allowed; all others are absent.
#[derive(Debug, Default)]
pub(super) struct CallFilter {
    /// By their number: with any arguments where there are no rules, else if one of these holds.
    calls: BTreeMap<u32, Vec<Rule>>,
}

impl Condition {
    /// These of the lower 32 bits of the argument with this index have this value.
    pub(super) fn masked(argument: u8, bits: u32, value: u32) -> Self {
        Self { offset: ARGUMENTS_AT + u32::from(argument) * ARGUMENT_LEN, bits, value }
    }

    /// The lower 32 bits of an argument are this value. The kernel looks at no more of an `int`.
    pub(super) fn is(argument: u8, value: u32) -> Self {
        Self::masked(argument, u32::MAX, value)
    }

    /// The upper 32 bits of an argument are this value.
    pub(super) fn upper_is(argument: u8, value: u32) -> Self {
        let lower = Self::is(argument, value);
        Self { offset: lower.offset + ARGUMENT_LEN / 2, ..lower }
    }
}

impl CallFilter {
    /// Allows a call: with any arguments if there are no rules, else if one of them holds.
    pub(super) fn allow(&mut self, call: i64, rules: Vec<Rule>) {
        self.calls.insert(u32::try_from(call).expect("the numbers of system calls are small"), rules);
    }

    #[cfg(test)]
    pub(super) fn knows(&self, call: i64) -> bool {
        self.calls.contains_key(&u32::try_from(call).unwrap())
    }

    /// The program. Calls of another architecture, which this kernel may run too, have other numbers: all of them are absent.
    pub(super) fn program(&self, arch: u32) -> BpfProgram {
        let mut program = vec![
            plain(LOAD, ARCH_AT),
            branch(JUMP_IF_EQUAL, arch, 1, 0),
            plain(RETURN, ABSENT),
            plain(LOAD, NUMBER_AT),
        ];
        program.extend(search(&self.ranges()));
        program
    }

    /// The numbers from which on a verdict is good, up to the next one.
    fn ranges(&self) -> Vec<(u32, Treatment<'_>)> {
        let mut ranges = vec![(0, Treatment::Absent)];
        for (number, rules) in &self.calls {
            let verdict = if rules.is_empty() { Treatment::Allowed } else { Treatment::Limited(rules) };
            // What follows a call is absent, unless it is the next one.
            ranges.pop_if(|(from, _)| from == number);
            if ranges.last().is_none_or(|(_, last)| *last != verdict) {
                ranges.push((*number, verdict));
            }
            ranges.push((number + 1, Treatment::Absent));
        }
        ranges
    }
}

/// Finds the range of the number that was loaded.
fn search(ranges: &[(u32, Treatment<'_>)]) -> BpfProgram {
    if let [(_, verdict)] = ranges {
        return judge(*verdict);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (from, lower) = (upper[0].0, search(lower));
    let mut program = match u8::try_from(lower.len()) {
        Ok(distance) => vec![branch(JUMP_IF_NOT_LESS, from, distance, 0)],
        Err(_) => vec![
            branch(JUMP_IF_NOT_LESS, from, 0, 1),
            plain(JUMP, u32::try_from(lower.len()).expect("a program has at most 4096 instructions")),
        ],
    };
    program.extend(lower);
    program.extend(search(upper));
    program
}

fn judge(verdict: Treatment<'_>) -> BpfProgram {
    let Treatment::Limited(rules) = verdict else {
        return vec![plain(RETURN, if verdict == Treatment::Allowed { ALLOW } else { ABSENT })];
    };
    let mut program = Vec::new();
    for rule in rules {
        // Each condition is three instructions; where it does not hold, the next rule is looked at.
        for (index, condition) in rule.iter().enumerate() {
            let left = u8::try_from(3 * (rule.len() - index - 1) + 1).expect("a rule has a few conditions");
            program.extend([
                plain(LOAD, condition.offset),
                plain(AND, condition.bits),
                branch(JUMP_IF_EQUAL, condition.value, 0, left),
            ]);
        }
        program.push(plain(RETURN, ALLOW));
    }
    program.push(plain(RETURN, ABSENT));
    program
}

fn plain(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARCH: u32 = 7;

    /// What the kernel would answer: the program run as seccomp(2) describes it.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD if k == NUMBER_AT => loaded = number,
                LOAD if k == ARCH_AT => loaded = arch,
                LOAD => {
                    let bytes = arguments.map(u64::to_le_bytes);
                    let at = (k - ARGUMENTS_AT) as usize;
                    loaded = u32::from_le_bytes(bytes.as_flattened()[at..at + 4].try_into().unwrap());
                }
                AND => loaded &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                JUMP_IF_NOT_LESS => at += usize::from(if loaded >= k { jt } else { jf }),
                RETURN => return k,
                _ => panic!("{code:#x}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_list_is_found_by_any_number(list in proptest::collection::btree_map(0u32..500, 0u8..3, 0..400)) {
            let mut filter = CallFilter::default();
            for (number, kind) in &list {
                let rules = (0..*kind).map(|value| vec![Condition::masked(1, 0xf, value.into())]);
                filter.allow((*number).into(), rules.collect());
            }
            let program = filter.program(ARCH);
            for number in (0..510).chain([1 << 30, u32::MAX]) {
                for argument in 0..3 {
                    let kind = list.get(&number);
                    let allowed = kind.is_some_and(|kind| *kind == 0 || argument < u64::from(*kind));
                    let got = run(&program, ARCH, number, [9, 0xf0 | argument, 9, 9, 9, 9]);
                    prop_assert_eq!(got, if allowed { ALLOW } else { ABSENT }, "{} {}", number, argument);
                }
            }
            prop_assert_eq!(run(&program, ARCH + 1, *list.keys().next().unwrap_or(&0), [0; 6]), ABSENT);
        }
    }

    #[test]
    fn all_conditions_of_one_rule_must_hold() {
        let mut filter = CallFilter::default();
        let is = Condition::is;
        filter.allow(5, vec![vec![is(0, 1), is(5, 2)], vec![is(0, 3), Condition::upper_is(2, 0)]]);
        let program = filter.program(ARCH);
        for (arguments, verdict) in [
            ([1, 0, 0, 0, 0, 2], ALLOW),
            ([1, 0, 0, 0, 0, 3], ABSENT),
            ([2, 0, 0, 0, 0, 2], ABSENT),
            ([3, 0, 0xffff_ffff, 0, 0, 0], ALLOW),
            ([3, 0, 0x1_0000_0000, 0, 0, 0], ABSENT),
        ] {
            assert_eq!(run(&program, ARCH, 5, arguments), verdict, "{arguments:?}");
        }
    }
}
