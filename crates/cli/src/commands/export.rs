//! `vxf export RUN`: a run's model for other programs.

use serde_json::json;
use vxf_access::Base;
use vxf_run::Run;
use vxf_run::store::export;

use crate::args::ExportArgs;
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};
use crate::progress::access;

pub(crate) fn run(args: &ExportArgs) -> Result<(), CommandError> {
    let run = Run::open(&args.run)?;
    let base = Base::open(run.experiment()?.recipe(), &access(args.finding.offline)?)?;
    let place = run.place.clone();
    let to = args.output_dir.as_path();
    let written = match args.adapter {
        true => export::adapters(run, &base, to)?,
        false => {
            export::model(run, &base, to)?;
            vec![to.to_owned()]
        }
    };
    let written: Vec<_> = written.iter().map(|place| place.display().to_string()).collect();
    if args.json {
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "run": place,
            "base": base.name,
            "written": written,
        }));
    }
    let what = if args.adapter { "adapter" } else { "merged model" };
    let lines: String = written.iter().map(|place| format!("{what} in {place}\n")).collect();
    print(&lines)
}
