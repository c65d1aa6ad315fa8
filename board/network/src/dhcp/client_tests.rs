//! The client against a server that is played, on a clock that is played.

use std::net::Ipv4Addr;
use std::time::Duration;

use hearth_core::Moment;
use proptest::prelude::*;

use super::client::{Action, Client, Event, Identity, Loss};
use super::lease::{Lease, LeaseFault};
use super::message::{Answer, Asked, Mac, Question, Said};

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 16);

fn at(seconds: u64) -> Moment {
    Moment::since_start(Duration::from_secs(seconds))
}

fn client() -> Client {
    Client::new(Identity { mac: MAC, host_name: Some("till".to_owned()) }, 42)
}

/// What a server says to this question; an hour's lease.
fn answer(question: &Question, said: Said, address: Ipv4Addr) -> Answer {
    Answer {
        said,
        number: question.number,
        mac: question.mac,
        address,
        server: Some(SERVER),
        mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        router: None,
        name_servers: vec![],
        domain: None,
        lease: Some(3600),
        renew: None,
        rebind: None,
    }
}

/// The one question among these, and to whom.
fn asked(actions: &[Action]) -> (Question, Option<Ipv4Addr>) {
    let mut asked = actions.iter().filter_map(|action| match action {
        Action::Ask(question, to) => Some((question.clone(), *to)),
        _ => None,
    });
    let one = asked.next().unwrap_or_else(|| panic!("no question in {actions:?}"));
    assert_eq!(asked.next(), None);
    one
}

fn hold(actions: &[Action]) -> (Ipv4Addr, u64) {
    match actions {
        [Action::Hold(lease, Some(left))] => (lease.address, left.as_secs()),
        other => panic!("{other:?}"),
    }
}

fn hear(client: &mut Client, seconds: u64, answer: Answer) -> Vec<Action> {
    client.step(at(seconds), Event::Heard(answer))
}

/// One that has an hour's lease since second 0.
fn bound() -> Client {
    let mut client = client();
    let (question, _) = asked(&client.step(at(0), Event::LinkUp));
    let (question, _) = asked(&hear(&mut client, 0, answer(&question, Said::Offer, ADDRESS)));
    assert_eq!(hold(&hear(&mut client, 0, answer(&question, Said::Granted, ADDRESS))), (ADDRESS, 3600));
    client
}

#[test]
fn an_address_is_discovered_requested_and_held_until_half_of_its_time() {
    let mut client = client();
    assert_eq!(client.next_deadline(), None, "without a link there is nothing to wait for");
    let (question, to) = asked(&client.step(at(5), Event::LinkUp));
    assert_eq!((question.asked, question.own, to), (Asked::Discover, None, None));
    assert_eq!(question.host_name.as_deref(), Some("till"));
    let (request, to) = asked(&hear(&mut client, 6, answer(&question, Said::Offer, ADDRESS)));
    assert_eq!((request.asked, request.wanted), (Asked::Request, Some(ADDRESS)));
    assert_eq!((request.server, to), (Some(SERVER), None), "the other servers hear that they are not meant");
    let held = hear(&mut client, 8, answer(&request, Said::Granted, ADDRESS));
    assert_eq!(hold(&held), (ADDRESS, 3598), "its time counts from the request");
    assert_eq!(client.next_deadline(), Some(at(6 + 1800)));
}

#[test]
fn silence_is_asked_again_with_waits_that_double_and_end_at_about_a_minute() {
    let mut client = client();
    let _ = client.step(at(0), Event::LinkUp);
    let (mut waits, mut told) = (Vec::new(), Vec::new());
    let mut now = at(0);
    for _ in 0..7 {
        let next = client.next_deadline().unwrap();
        assert_eq!(client.step(Moment::from_millis(next.as_millis() - 1), Event::Tick), []);
        let actions = client.step(next, Event::Tick);
        assert_eq!(asked(&actions).0.asked, Asked::Discover);
        told.push(actions.contains(&Action::Silence));
        waits.push(next.since(now).as_secs());
        now = next;
    }
    assert_eq!(waits, [4, 8, 16, 32, 64, 64, 64]);
    assert_eq!(told, [false, false, true, false, false, false, false], "one word about it");
}

#[test]
fn a_request_that_is_not_answered_gives_way_to_a_new_discovery() {
    let mut client = client();
    let (question, _) = asked(&client.step(at(0), Event::LinkUp));
    let _ = hear(&mut client, 0, answer(&question, Said::Offer, ADDRESS));
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let next = client.next_deadline().unwrap();
        kinds.push(asked(&client.step(next, Event::Tick)).0.asked);
    }
    assert_eq!(kinds, [Asked::Request, Asked::Request, Asked::Request, Asked::Discover]);
}

#[test]
fn a_lease_is_renewed_at_its_server_then_with_anyone_and_then_lost() {
    let mut client = bound();
    let (question, to) = asked(&client.step(at(1800), Event::Tick));
    assert_eq!((question.own, question.wanted, question.server), (Some(ADDRESS), None, None));
    assert_eq!(to, Some(SERVER));
    assert_eq!(client.next_deadline(), Some(at(1800 + 675)), "half of what is left until all are asked");
    let (question, to) = asked(&client.step(at(3150), Event::Tick));
    assert_eq!((question.own, to), (Some(ADDRESS), None));
    let actions = client.step(at(3600), Event::Tick);
    assert!(matches!(&actions[0], Action::Drop(lease, Loss::Ended) if lease.address == ADDRESS));
    assert_eq!(asked(&actions).0.asked, Asked::Discover);
}

#[test]
fn more_time_counts_from_when_it_was_asked_for() {
    let mut client = bound();
    let (question, _) = asked(&client.step(at(1800), Event::Tick));
    let held = hear(&mut client, 1803, answer(&question, Said::Granted, ADDRESS));
    assert_eq!(hold(&held), (ADDRESS, 3597));
    assert_eq!(client.next_deadline(), Some(at(3600)));
    let again = hear(&mut client, 1804, answer(&question, Said::Granted, OTHER));
    assert_eq!(again, [], "nothing was asked any more");
}

#[test]
fn a_server_that_takes_the_address_back_is_believed_at_once() {
    let mut client = bound();
    let (question, _) = asked(&client.step(at(1800), Event::Tick));
    let actions = hear(&mut client, 1801, answer(&question, Said::Refused, ADDRESS));
    assert!(matches!(&actions[0], Action::Drop(lease, Loss::Refused) if lease.address == ADDRESS));
    assert_eq!(asked(&actions).0.asked, Asked::Discover);
}

#[test]
fn a_lost_link_keeps_the_lease_and_a_new_one_asks_whether_it_still_holds() {
    let mut client = bound();
    assert_eq!(client.step(at(100), Event::LinkDown), []);
    assert_eq!(client.next_deadline(), Some(at(3600)), "its end does not wait for a link");
    let (question, to) = asked(&client.step(at(200), Event::LinkUp));
    assert_eq!((question.asked, question.wanted, question.own), (Asked::Request, Some(ADDRESS), None));
    assert_eq!((question.server, to), (None, None));
    let held = hear(&mut client, 201, answer(&question, Said::Granted, ADDRESS));
    assert_eq!(hold(&held), (ADDRESS, 3599));
}

#[test]
fn on_another_network_the_address_is_given_up_and_one_of_there_is_taken() {
    let mut client = bound();
    let _ = client.step(at(100), Event::LinkDown);
    let (question, _) = asked(&client.step(at(200), Event::LinkUp));
    let actions = hear(&mut client, 200, answer(&question, Said::Refused, ADDRESS));
    assert!(matches!(&actions[0], Action::Drop(_, Loss::Refused)));
    let (question, _) = asked(&actions);
    let (question, _) = asked(&hear(&mut client, 200, answer(&question, Said::Offer, OTHER)));
    assert_eq!(hold(&hear(&mut client, 200, answer(&question, Said::Granted, OTHER))), (OTHER, 3600));
}

#[test]
fn where_nobody_confirms_a_lease_it_is_held_to_its_end_while_others_are_asked() {
    let mut client = bound();
    let _ = client.step(at(100), Event::LinkDown);
    let _ = client.step(at(200), Event::LinkUp);
    let mut now = at(200);
    let mut kinds = Vec::new();
    while now < at(3600) {
        now = client.next_deadline().unwrap();
        let actions = client.step(now, Event::Tick);
        kinds.extend(actions.iter().filter_map(|action| match action {
            Action::Ask(question, _) => Some(question.asked),
            _ => None,
        }));
        let lost = actions.iter().any(|action| matches!(action, Action::Drop(_, Loss::Ended)));
        assert_eq!(lost, now >= at(3600), "{now:?}");
    }
    assert_eq!(kinds[..4], [Asked::Request, Asked::Request, Asked::Request, Asked::Discover]);
}

#[test]
fn a_lease_that_ends_without_a_link_is_dropped_all_the_same() {
    let mut client = bound();
    let _ = client.step(at(100), Event::LinkDown);
    let actions = client.step(at(3600), Event::Tick);
    assert!(matches!(actions[..], [Action::Drop(_, Loss::Ended)]), "{actions:?}");
    assert_eq!(client.next_deadline(), None);
    assert_eq!(asked(&client.step(at(4000), Event::LinkUp)).0.asked, Asked::Discover);
}

#[test]
fn an_offer_that_no_host_can_take_is_told_once_and_others_are_still_heard() {
    let mut client = client();
    let (question, _) = asked(&client.step(at(0), Event::LinkUp));
    let bad = answer(&question, Said::Offer, Ipv4Addr::BROADCAST);
    let told = hear(&mut client, 0, bad.clone());
    assert_eq!(told, [Action::Spurn(LeaseFault::Address(Ipv4Addr::BROADCAST), Some(SERVER))]);
    assert_eq!(hear(&mut client, 0, bad), []);
    assert_eq!(asked(&hear(&mut client, 1, answer(&question, Said::Offer, ADDRESS))).0.wanted, Some(ADDRESS));
}

#[test]
fn answers_to_others_or_to_older_questions_are_nothing() {
    let mut client = client();
    let (question, _) = asked(&client.step(at(0), Event::LinkUp));
    let offer = answer(&question, Said::Offer, ADDRESS);
    assert_eq!(hear(&mut client, 0, Answer { number: question.number ^ 1, ..offer.clone() }), []);
    assert_eq!(hear(&mut client, 0, Answer { mac: [9; 6], ..offer.clone() }), []);
    assert_eq!(hear(&mut client, 0, Answer { said: Said::Granted, ..offer.clone() }), []);
    let (request, _) = asked(&hear(&mut client, 0, offer));
    let foreign = Answer { server: Some(OTHER), ..answer(&request, Said::Refused, ADDRESS) };
    assert_eq!(hear(&mut client, 0, foreign), [], "a server that was not meant has nothing to refuse");
}

#[test]
fn a_server_that_offers_and_refuses_again_and_again_is_asked_ever_less_often() {
    let mut client = client();
    let mut now = at(0);
    let mut actions = client.step(now, Event::LinkUp);
    let mut rounds = 0;
    while now < at(3600) {
        if let Some((question, _)) =
            actions.iter().any(|a| matches!(a, Action::Ask(..))).then(|| asked(&actions))
        {
            let said = if question.asked == Asked::Discover { Said::Offer } else { Said::Refused };
            rounds += usize::from(said == Said::Offer);
            actions = client.step(now, Event::Heard(answer(&question, said, ADDRESS)));
        } else {
            now = client.next_deadline().unwrap();
            actions = client.step(now, Event::Tick);
        }
    }
    assert!(rounds < 70, "{rounds} in an hour");
}

#[test]
fn a_lease_for_ever_is_never_renewed() {
    let mut client = client();
    let (question, _) = asked(&client.step(at(0), Event::LinkUp));
    let (question, _) = asked(&hear(&mut client, 0, answer(&question, Said::Offer, ADDRESS)));
    let for_ever = Answer { lease: Some(u32::MAX), ..answer(&question, Said::Granted, ADDRESS) };
    assert!(matches!(hear(&mut client, 0, for_ever)[..], [Action::Hold(_, None)]));
    assert_eq!(client.next_deadline(), None);
    assert_eq!(client.step(at(1 << 40), Event::Tick), []);
}

/// What may happen to a client.
#[derive(Clone, Debug)]
enum Fate {
    Wait(u16),
    ToDeadline,
    Up,
    Down,
    /// An answer to its last question.
    Said {
        said: Said,
        address: u32,
        lease: Option<u32>,
        renew: Option<u32>,
        mask: u32,
    },
}

fn fate() -> impl Strategy<Value = Fate> {
    let said = prop_oneof![Just(Said::Offer), Just(Said::Granted), Just(Said::Refused)];
    let address = prop_oneof![3 => Just(ADDRESS.to_bits()), 1 => any::<u32>()];
    let mask = prop_oneof![3 => Just(0xffff_ff00), 1 => any::<u32>()];
    let lease = prop_oneof![Just(Some(3600)), any::<Option<u32>>(), Just(Some(30))];
    prop_oneof![
        1 => any::<u16>().prop_map(Fate::Wait),
        3 => Just(Fate::ToDeadline),
        1 => Just(Fate::Up),
        1 => Just(Fate::Down),
        6 => (said, address, lease, any::<Option<u32>>(), mask).prop_map(|(said, address, lease, renew, mask)| {
            Fate::Said { said, address, lease, renew, mask }
        }),
    ]
}

proptest! {
    /// Whatever a server says and whenever: questions stay rare, a lease is never held past its end, and what is held
    /// is what was last said to be held.
    #[test]
    fn no_server_makes_a_client_storm_or_hold_what_has_ended(fates in proptest::collection::vec(fate(), 1..120)) {
        let mut client = client();
        let mut now = at(0);
        let mut last: Option<Question> = None;
        let mut end: Option<(Lease, Option<Moment>)> = None;
        let (mut questions, mut links) = (0_u64, 0_u64);
        for fate in fates {
            let event = match fate {
                Fate::Wait(seconds) => {
                    now = now.after(Duration::from_secs(seconds.into()));
                    Event::Tick
                }
                Fate::ToDeadline => {
                    now = client.next_deadline().unwrap_or(now).max(now);
                    Event::Tick
                }
                Fate::Up => {
                    links += 1;
                    Event::LinkUp
                }
                Fate::Down => Event::LinkDown,
                Fate::Said { said, address, lease, renew, mask } => {
                    let Some(question) = &last else { continue };
                    let answer = answer(question, said, Ipv4Addr::from(address));
                    Event::Heard(Answer { lease, renew, mask: Some(Ipv4Addr::from(mask)), ..answer })
                }
            };
            for action in client.step(now, event) {
                match action {
                    Action::Ask(question, _) => {
                        questions += 1;
                        last = Some(question);
                    }
                    Action::Hold(lease, left) => end = Some((lease, left.map(|left| now.after(left)))),
                    Action::Drop(lease, _) => {
                        let held = end.take().map(|(held, _)| held);
                        prop_assert_eq!(held, Some(lease));
                    }
                    Action::Spurn(..) | Action::Silence => {}
                }
            }
            if let Some((_, Some(end))) = &end {
                prop_assert!(*end > now, "held past its end");
            }
            // A round of discovery, request and renewal is at least ten seconds long but for the first of each link.
            let rounds = now.since(at(0)).as_secs() / 4 + 4 * links + 8;
            prop_assert!(questions <= 2 * rounds, "{questions} questions in {rounds} rounds");
        }
    }
}
