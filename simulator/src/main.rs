//! The simulator on loopback. `--help` says how to call it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use simulator::{Config, server};

const HELP: &str = "\
A local Hetzner Cloud and Tailscale, with machines that boot and join.

Usage: simulator [--port N] [--seed S] [--time-scale X] [--exit-with-parent]

  --port N             port on 127.0.0.1; 0 (the default) takes a free one
  --seed S             seed of every random choice (default 1)
  --time-scale X       how much faster time passes in the world (default 1)
  --exit-with-parent   end when standard input closes

When it is ready it prints one line of JSON: where the APIs are, and what to log in with.

Control (JSON):
  GET    /_sim/world           what is true now
  GET    /_sim/journal         every request and happening so far
  POST   /_sim/faults          arm a fault      DELETE /_sim/faults   disarm all
  GET    /_sim/config          how the world behaves
  PATCH  /_sim/config          change it (JSON merge patch)
  POST   /_sim/advance         { \"seconds\": 3600 }: let time pass at once
  POST   /_sim/servers         plant a server   POST /_sim/devices    plant a device
  PATCH  /_sim/servers/ID      { \"labels\": {}, \"protected\": true }  DELETE /_sim/servers/ID
  POST   /_sim/reset           a new world
";

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(complaint) => {
            eprintln!("simulator: {complaint}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
        let config = Config { seed: options.seed, ..Config::default() };
        runtime.block_on(server::serve(address, config, options.time_scale, options.exit_with_parent))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("simulator: {complaint}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    port: u16,
    seed: u64,
    time_scale: f64,
    exit_with_parent: bool,
}

impl Options {
    /// `None` asks for help.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { port: 0, seed: 1, time_scale: 1.0, exit_with_parent: false };
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| arguments.next().ok_or_else(|| format!("{argument} needs {what}"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--port" => options.port = value("a port")?.parse().map_err(|_| "--port is no port".to_owned())?,
                "--seed" => options.seed = value("a number")?.parse().map_err(|_| "--seed is no number".to_owned())?,
                "--time-scale" => {
                    let scale =
                        value("a number")?.parse::<f64>().ok().filter(|scale| *scale > 0.0 && scale.is_finite());
                    options.time_scale = scale.ok_or("--time-scale is no positive number")?;
                }
                "--exit-with-parent" => options.exit_with_parent = true,
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(Some(options))
    }
}
