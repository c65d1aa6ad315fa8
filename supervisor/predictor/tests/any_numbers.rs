//! Whatever numbers and times come in, what comes out is finite.

use hearth_predictor::{
    Cadence, Seconds, Series,
    state::{self, Memory},
};
use proptest::prelude::*;

fn any_sample() -> impl Strategy<Value = f32> {
    prop_oneof![
        3 => any::<f32>(),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(0.0),
        1 => Just(f32::MIN_POSITIVE),
        6 => -100.0f32..100.0,
    ]
}

fn any_step() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(300u64), 1 => 0u64..5000, 1 => any::<u64>()]
}

proptest! {
    #[test]
    fn forecasts_bounds_and_scores_stay_finite(
        cadence in prop_oneof![Just(1u32), Just(60), Just(300), Just(3600), any::<u32>()],
        ahead in any::<[u16; 3]>(),
        samples in proptest::collection::vec((any_step(), any_sample()), 1..600),
    ) {
        let mut series = Series::new(Cadence::every(cadence), ahead);
        let mut at = 0u64;
        for (step, value) in samples {
            at = at.wrapping_add(step);
            let observation = series.observe(Seconds(at), value);
            if let Some(finding) = observation.finding {
                prop_assert!((0.0..=1.0).contains(&finding.score), "{finding:?}");
            }
            for forecast in observation.forecasts.into_iter().flatten() {
                prop_assert!(forecast.expected.is_finite() && forecast.upper.is_finite(), "{forecast:?}");
                prop_assert!(forecast.upper >= forecast.expected);
                prop_assert!((0.0..=1.0).contains(&forecast.share));
            }
        }
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let saved = state::save(&series, &mut buffer).expect("room");
        prop_assert_eq!(state::restore::<Series<3>>(saved).expect("what was lived through is sound"), series);
    }
}
