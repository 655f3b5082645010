//! Every test here once more in the other versions of MQTT, in a process of its own.

use std::env;
use std::process::Command;

use super::*;

/// Names the version for [`Rig`].
const VARIABLE: &str = "STS_TEST_MQTT_VERSION";

/// The words of this refusal are those of the version.
const WORDS: &str = "incoming::a_refused_connection_says_what_to_mend";

/// Those that need what MQTT 3.1 cannot say, whether there is a session: [`super::v31`] has what happens instead.
const SKIPPED_IN_3_1: [&str; 8] = [
    WORDS,
    "blame::a_broker_that_closes_at_the_second_step_of_qos_2_does_not_refuse_the_message",
    "health::a_packet_that_the_broker_swallows_is_sent_again_on_another_connection",
    "incoming::qos_2_arrives_once_until_pubrel",
    "incoming::subscriptions_are_made_again_where_the_broker_has_them_not",
    "outgoing::a_kept_session_gets_repeats_in_order_and_a_forgetful_one_new_messages",
    "outgoing::qos_2_goes_through_its_steps_and_repeats_the_right_one",
    "outgoing::qos_2_is_sent_anew_when_the_broker_forgot_before_pubcomp",
];

/// What the broker can say in MQTT 5 and then says otherwise: the properties of a message count as part of it, and the limit of
/// what is in flight is its own. [`super::v5`] and [`super::v5_limits`] have both.
const SKIPPED_IN_5: [&str; 3] = [
    WORDS,
    "incoming::a_message_over_the_limit_is_announced_and_can_be_acknowledged",
    "outgoing::qos_2_goes_out_no_faster_than_brokers_take_it",
];

/// The version that the tests of this process are about.
pub(super) fn version() -> Version {
    let level = env::var(VARIABLE).unwrap_or_default();
    Version::ALL.into_iter().find(|version| version.config_value() == level).unwrap_or_default()
}

fn all_tests_in(version: Version, skipped: &[&str]) {
    if env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(VARIABLE, version.config_value()).args(["mqtt::client_session::tests::"]);
    // These are about one version.
    command.args(
        ["versions::", "v31::", "v5::", "v5_limits::", "v5_subscriptions::"]
            .iter()
            .flat_map(|module| ["--skip", module]),
    );
    command.args(skipped.iter().flat_map(|test| ["--skip", test]));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("running 0 tests"), "MQTT {version}:\n{said}");
}

#[test]
fn mqtt_3_1_behaves_alike() {
    all_tests_in(Version::V31, &SKIPPED_IN_3_1);
}

#[test]
fn mqtt_5_behaves_alike() {
    all_tests_in(Version::V5, &SKIPPED_IN_5);
}
