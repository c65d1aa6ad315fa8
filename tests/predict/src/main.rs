//! Measures the predictor: on public data, in simulators, beside simple rivals in the same run.
//!
//! Duty: run the sections that were asked for and print each figure beside its target, whatever it says.
//! Not here: models. Invariants: every section is the same at every run on every machine, but for the costs in
//! nanoseconds; a target that is missed is printed as missed and is no error.

#![forbid(unsafe_code)]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use hearth_predictor::neural::{Attention, Lstm};
use thiserror::Error;

mod anomalies;
mod causes;
mod cost;
mod dataset;
mod dice;
mod keep_alive;
mod load;
mod nab;
mod recovery;
mod rivals;
mod scaling;
mod table;
mod training;
mod transformer;

#[derive(Debug, Parser)]
#[command(name = "hearth-predict-bench", max_term_width = 110)]
struct Options {
    /// The folder with the public data: `anomaly/` and `load/`.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A trace of uses for the keep-alive section, lines of SECONDS,WORKLOAD; may be repeated.
    #[arg(long = "trace", value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// A folder of weights for the networks, instead of training them now.
    #[arg(long, value_name = "DIR", conflicts_with = "train")]
    weights: Option<PathBuf>,
    /// Only train the networks, and write their weights into this folder.
    #[arg(long, value_name = "DIR")]
    train: Option<PathBuf>,
    /// Run only this section; may be repeated.
    #[arg(long, value_name = "SECTION")]
    only: Vec<Section>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Labelled anomalies, scored as the Numenta Anomaly Benchmark does.
    Anomaly,
    /// Forecasts of requests per minute.
    Load,
    /// The same beside trained networks and a library.
    Rivals,
    /// Replicas for the web site's requests in a simulated queue.
    Sizing,
    /// Cold starts against memory held for nothing.
    KeepAlive,
    /// Time to cure simulated faults.
    Recovery,
    /// Who began it: faults injected into simulated boxes.
    Cause,
    /// Time and memory of a series.
    Cost,
    /// Forecasts of a transformer's oil temperature.
    Transformer,
}

#[derive(Debug, Error)]
enum BenchError {
    #[error(transparent)]
    Data(#[from] dataset::DataError),
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn tasks(options: &Options) -> Result<Vec<rivals::Task>, BenchError> {
    let minutes = dataset::read_csv(&options.data.join("load/wc98_per_minute.csv"), 1)?;
    let hours = dataset::read_csv(&options.data.join("load/ETTh1.csv"), 7)?;
    Ok(rivals::tasks(&minutes, &hours))
}

fn train(options: &Options, folder: &Path) -> Result<(), BenchError> {
    for task in &tasks(options)? {
        let files = [
            (rivals::path_of::<Lstm>(folder, task), rivals::train::<Lstm>(task)),
            (rivals::path_of::<Attention>(folder, task), rivals::train::<Attention>(task)),
        ];
        for (path, bytes) in files {
            fs::write(&path, bytes)
                .map_err(|source| dataset::DataError::Write { path: path.clone(), source })?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

fn run(options: &Options) -> Result<(), BenchError> {
    if let Some(folder) = &options.train {
        return train(options, folder);
    }
    let wanted = |section| options.only.is_empty() || options.only.contains(&section);
    if wanted(Section::Anomaly) {
        anomalies::run(&dataset::read_labelled(&options.data.join("anomaly"))?);
    }
    if wanted(Section::Load) {
        load::run(&dataset::read_csv(&options.data.join("load/wc98_per_minute.csv"), 1)?);
    }
    if wanted(Section::Rivals) {
        rivals::run(&tasks(options)?, options.weights.as_deref())?;
    }
    if wanted(Section::Sizing) {
        scaling::run(&dataset::read_csv(&options.data.join("load/wc98_per_minute.csv"), 1)?);
    }
    if wanted(Section::KeepAlive) {
        let named = |path: &PathBuf| Ok((path.display().to_string(), keep_alive::read_trace(path)?));
        keep_alive::run(&options.traces.iter().map(named).collect::<Result<Vec<_>, BenchError>>()?);
    }
    if wanted(Section::Recovery) {
        recovery::run();
    }
    if wanted(Section::Cause) {
        causes::run();
    }
    if wanted(Section::Cost) {
        cost::run();
    }
    if wanted(Section::Transformer) {
        transformer::run(&dataset::read_csv(&options.data.join("load/ETTh1.csv"), 7)?);
    }
    Ok(())
}
