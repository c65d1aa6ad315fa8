use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience { agent: Duration::from_secs(9), button: Duration::from_secs(5) };

fn ticket(request: u32) -> Ticket {
    Ticket { client: 1, request }
}

/// A life with its clock.
struct Tester {
    life: Life,
    now: Instant,
}

impl Tester {
    fn new(patience: Patience) -> Self {
        Self { life: Life::new(patience), now: Instant::now() }
    }

    fn step(&mut self, event: Event) -> Actions {
        self.life.step(self.now, event)
    }

    /// Goes to the deadline and ticks.
    fn let_time_pass(&mut self) -> Actions {
        self.now = self.life.deadline().unwrap();
        self.step(Event::Tick)
    }
}

#[test]
fn a_pause_is_answered_when_all_rest_and_undone_by_a_resume() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Pause(ticket(1))), [Action::Rest]);
    assert_eq!(tester.step(Event::Pause(ticket(2))), []);
    assert_eq!(
        tester.step(Event::AtRest),
        [
            Action::Answer(ticket(1), Verdict::Done),
            Action::Answer(ticket(2), Verdict::Done),
            Action::Tell(News::Paused)
        ]
    );
    assert_eq!(tester.step(Event::Pause(ticket(3))), [Action::Answer(ticket(3), Verdict::Done)]);
    assert_eq!(
        tester.step(Event::Resume(ticket(4))),
        [Action::Work, Action::Answer(ticket(4), Verdict::Done), Action::Tell(News::Resumed)]
    );
    assert_eq!(tester.step(Event::Resume(ticket(5))), [Action::Answer(ticket(5), Verdict::Done)]);
}

#[test]
fn a_pause_that_does_not_come_about_is_undone() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Pause(ticket(1))), [Action::Rest]);
    assert_eq!(tester.step(Event::Tick), [], "not before its time");
    let refused = Action::Answer(ticket(1), Verdict::Refused(Refusal::TooLate));
    assert_eq!(tester.let_time_pass(), [Action::Work, refused]);
    assert_eq!(tester.life.phase(), Phase::Running);
    assert_eq!(tester.step(Event::AtRest), [], "it comes too late");
}

#[test]
fn a_pause_that_an_end_overtakes_is_refused_and_after_a_reboot_not_for_ever() {
    for (outcome, code) in [(Outcome::Reboot, Refusal::Overtaken), (Outcome::PowerOff, Refusal::Ended)] {
        let mut tester = Tester::new(PATIENCE);
        assert_eq!(tester.step(Event::Pause(ticket(1))), [Action::Rest]);
        let refused = Action::Answer(ticket(1), Verdict::Refused(code));
        assert_eq!(tester.step(Event::Ended(outcome)), [refused]);
    }
}

#[test]
fn a_deaf_guest_is_asked_by_every_means_and_then_killed() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(
        tester.step(Event::Stop(ticket(1))),
        [Action::Tell(News::Stopping(Step::Agent)), Action::AskAgent { grace: Duration::from_secs(6) }]
    );
    assert_eq!(tester.let_time_pass(), [Action::Tell(News::Stopping(Step::Button)), Action::PressButton]);
    assert_eq!(tester.let_time_pass(), [Action::Tell(News::Stopping(Step::Kill)), Action::Kill]);
    assert_eq!(tester.life.deadline(), None);
    let end = End { outcome: Outcome::HostStop, how: Some(Step::Kill) };
    assert_eq!(
        tester.step(Event::Ended(Outcome::HostStop)),
        [Action::Answer(ticket(1), Verdict::Ended(end))]
    );
    assert_eq!(
        tester.step(Event::Stop(ticket(2))),
        [Action::Answer(ticket(2), Verdict::Ended(end))],
        "who asks late is told, too"
    );
}

#[test]
fn what_cannot_work_or_is_not_wanted_is_left_out() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Signal).len(), 2);
    assert_eq!(
        tester.step(Event::NoWay(Step::Agent)),
        [Action::Tell(News::Stopping(Step::Button)), Action::PressButton]
    );
    assert_eq!(
        tester.step(Event::NoWay(Step::Button)),
        [Action::Tell(News::Stopping(Step::Kill)), Action::Kill]
    );
    assert_eq!(tester.step(Event::NoWay(Step::Button)), []);

    let mut impatient = Tester::new(Patience { agent: Duration::ZERO, button: Duration::ZERO });
    assert_eq!(impatient.step(Event::Signal), [Action::Tell(News::Stopping(Step::Kill)), Action::Kill]);
}

#[test]
fn an_agent_that_hangs_up_late_does_not_cost_the_button_its_time() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Stop(ticket(1))).len(), 2);
    assert_eq!(tester.let_time_pass(), [Action::Tell(News::Stopping(Step::Button)), Action::PressButton]);
    // The guest obeys its button, and on its way ends the call that nobody answered.
    assert_eq!(tester.step(Event::NoWay(Step::Agent)), []);
    assert_eq!(tester.step(Event::Ended(Outcome::PowerOff)).len(), 1);
    assert_eq!(tester.life.end(), Some(End { outcome: Outcome::HostStop, how: Some(Step::Button) }));
}

#[test]
fn the_second_signal_does_not_wait() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Signal).len(), 2);
    assert_eq!(tester.step(Event::Signal), [Action::Tell(News::Stopping(Step::Kill)), Action::Kill]);
    assert_eq!(tester.step(Event::Signal), []);
}

#[test]
fn a_guest_that_leaves_because_it_was_asked_was_stopped_by_the_host() {
    for (outcome, told) in [
        (Outcome::PowerOff, Outcome::HostStop),
        (Outcome::Reboot, Outcome::HostStop),
        (Outcome::Panic, Outcome::Panic),
        (Outcome::WatchdogExpired, Outcome::WatchdogExpired),
    ] {
        let mut tester = Tester::new(PATIENCE);
        assert_eq!(tester.step(Event::Stop(ticket(1))).len(), 2);
        let end = End { outcome: told, how: Some(Step::Agent) };
        assert_eq!(tester.step(Event::Ended(outcome)), [Action::Answer(ticket(1), Verdict::Ended(end))]);
        assert_eq!(tester.life.end(), Some(end));
    }
    let mut alone = Tester::new(PATIENCE);
    assert_eq!(alone.step(Event::Ended(Outcome::PowerOff)), []);
    assert_eq!(alone.life.end(), Some(End { outcome: Outcome::PowerOff, how: None }));
}

#[test]
fn a_paused_machine_that_is_to_stop_goes_on_first() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Pause(ticket(1))).len(), 1);
    assert_eq!(tester.step(Event::AtRest).len(), 2);
    let actions = tester.step(Event::Stop(ticket(2)));
    assert_eq!(actions.first(), Some(&Action::Work));
    assert!(matches!(actions.last(), Some(Action::AskAgent { .. })));
}

#[test]
fn a_snapshot_of_a_running_machine_is_a_visit_and_nobody_is_told_of_a_pause() {
    let mut tester = Tester::new(PATIENCE);
    assert_eq!(tester.step(Event::Snapshot(ticket(1))), [Action::Rest]);
    let busy = Action::Answer(ticket(2), Verdict::Refused(Refusal::Busy));
    assert_eq!(tester.step(Event::Snapshot(ticket(2))), [busy]);
    assert_eq!(tester.step(Event::Resume(ticket(3))), [Action::Answer(ticket(3), Verdict::Done)]);
    assert_eq!(tester.step(Event::AtRest), [Action::Save(ticket(1)), Action::Work]);
    assert_eq!(tester.life.phase(), Phase::Running);
}

#[test]
fn a_paused_machine_stays_paused_when_it_is_written_down() {
    let mut tester = Tester::new(PATIENCE);
    tester.step(Event::Pause(ticket(1)));
    tester.step(Event::AtRest);
    assert_eq!(tester.step(Event::Snapshot(ticket(2))), [Action::Save(ticket(2))]);
    assert_eq!(tester.life.phase(), Phase::Paused);
    // Asked for on the way to a pause: both.
    let mut tester = Tester::new(PATIENCE);
    tester.step(Event::Snapshot(ticket(1)));
    tester.step(Event::Pause(ticket(2)));
    let done = Action::Answer(ticket(2), Verdict::Done);
    assert_eq!(tester.step(Event::AtRest), [Action::Save(ticket(1)), done, Action::Tell(News::Paused)]);
}

#[derive(Debug, Clone, Copy)]
enum Input {
    Pause,
    Resume,
    Snapshot,
    Stop,
    StopNow,
    Signal,
    AtRest,
    NoWay(Step),
    Tick(u64),
    Ended,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => Just(Input::Pause),
        4 => Just(Input::Resume),
        3 => Just(Input::Snapshot),
        2 => Just(Input::Stop),
        1 => Just(Input::StopNow),
        1 => Just(Input::Signal),
        4 => Just(Input::AtRest),
        2 => prop_oneof![Just(Step::Agent), Just(Step::Button)].prop_map(Input::NoWay),
        4 => (0u64..12_000).prop_map(Input::Tick),
        1 => Just(Input::Ended),
    ]
}

/// What the shell does with the machine.
#[derive(Debug, Default)]
struct Model {
    /// Answers per ticket.
    answers: BTreeMap<u32, u32>,
    asked: u32,
    resting: bool,
    killed: bool,
}

impl Model {
    fn next_ticket(&mut self) -> Ticket {
        self.asked += 1;
        ticket(self.asked)
    }

    fn carry_out(&mut self, actions: &[Action]) -> Result<(), TestCaseError> {
        for action in actions {
            prop_assert!(!self.killed || matches!(action, Action::Answer(..)), "{action:?} after a kill");
            match action {
                Action::Rest => {
                    prop_assert!(!self.resting);
                    self.resting = true;
                }
                Action::Work => {
                    prop_assert!(self.resting);
                    self.resting = false;
                }
                Action::AskAgent { .. } | Action::PressButton => {
                    prop_assert!(!self.resting, "a guest that rests hears nothing");
                }
                Action::Kill => self.killed = true,
                Action::Save(ticket) => {
                    prop_assert!(self.resting, "only what rests is written down");
                    *self.answers.entry(ticket.request).or_default() += 1;
                }
                Action::Answer(ticket, _) => *self.answers.entry(ticket.request).or_default() += 1,
                Action::Tell(_) => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_order_of_events_hangs_and_every_request_has_one_answer(
        inputs in prop::collection::vec(input(), 0..60),
        agent_s in 0u64..20,
        button_s in 0u64..20,
    ) {
        let patience = Patience { agent: Duration::from_secs(agent_s), button: Duration::from_secs(button_s) };
        let mut tester = Tester::new(patience);
        let mut model = Model::default();
        let mut stop_asked: Option<Instant> = None;
        for input in inputs {
            let event = match input {
                Input::Pause => Event::Pause(model.next_ticket()),
                Input::Resume => Event::Resume(model.next_ticket()),
                Input::Snapshot => Event::Snapshot(model.next_ticket()),
                Input::Stop => Event::Stop(model.next_ticket()),
                Input::StopNow => Event::StopNow(model.next_ticket()),
                Input::Signal => Event::Signal,
                Input::AtRest => Event::AtRest,
                Input::NoWay(step) => Event::NoWay(step),
                Input::Tick(ms) => {
                    // The shell wakes at every deadline on the way.
                    let goal = tester.now + Duration::from_millis(ms);
                    while tester.life.deadline().is_some_and(|deadline| deadline <= goal) {
                        let actions = tester.let_time_pass();
                        prop_assert!(!actions.is_empty(), "a deadline leads to something");
                        model.carry_out(&actions)?;
                    }
                    tester.now = goal;
                    Event::Tick
                }
                Input::Ended => Event::Ended(Outcome::PowerOff),
            };
            if matches!(input, Input::Stop | Input::StopNow | Input::Signal) && tester.life.end().is_none() {
                stop_asked.get_or_insert(tester.now);
            }
            let actions = tester.step(event);
            model.carry_out(&actions)?;
            if let Some(since) = stop_asked && !model.killed && tester.life.end().is_none() {
                prop_assert_eq!(tester.life.phase(), Phase::Stopping);
                prop_assert!(tester.now < since + patience.agent + patience.button);
            }
        }
        // From wherever it is, a stop ends it within the sum of the deadlines.
        let began = tester.now;
        let actions = tester.step(Event::Stop(model.next_ticket()));
        model.carry_out(&actions)?;
        while tester.life.deadline().is_some() {
            let actions = tester.let_time_pass();
            model.carry_out(&actions)?;
        }
        prop_assert!(tester.now <= began + patience.agent + patience.button);
        prop_assert!(model.killed || tester.life.end().is_some());
        let actions = tester.step(Event::Ended(Outcome::HostStop));
        model.carry_out(&actions)?;
        prop_assert_eq!(model.answers.len(), model.asked as usize);
        prop_assert!(model.answers.values().all(|count| *count == 1), "{:?}", model.answers);
    }
}
