//! The simulator on loopback. `--help` says how to call it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use simulator::{Config, server};

const HELP: &str = "\
A local Hetzner Cloud and Tailscale, with machines that boot and join.

Usage: simulator [--port N] [--metadata ADDRESS:PORT] [--seed S] [--epoch S] [--time-scale X] [--exit-with-parent]

  --port N             port on 127.0.0.1; 0 (the default) takes a free one
  --metadata ADDRESS:PORT
                       where machines find Hetzner's metadata server; a real machine looks at 169.254.169.254:80
  --seed S             seed of every random choice (default 1)
  --epoch S            unix seconds at which the world begins (default 1795428000, in November 2026)
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
  GET    /_sim/reach/IP/PORT   whether a machine answers there, from within the tailnet
  PATCH  /_sim/servers/ID      { \"labels\": {}, \"protected\": true }  DELETE /_sim/servers/ID
  GET    /_sim/servers/ID/user-data   its first-boot document
  POST   /_sim/servers/ID/off         its power is cut
  POST   /_sim/servers/ID/join        { \"authKey\": \"\", \"hostname\": \"\" }: `tailscale up` on its machine; for worlds whose
                                      machines a program outside plays (machine.boot: \"outside\")
  PUT    /_sim/metadata        { \"server\": ID }: whose machine asks the metadata server; the newest if nobody says so
  POST   /_sim/first-boot      { \"userData\": \"\", \"name\": \"\" }: what a machine of this name makes of a document
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
        let usual = Config::default();
        let config = Config { seed: options.seed, epoch: options.epoch.unwrap_or(usual.epoch), ..usual };
        runtime.block_on(server::serve(&options.serving, config))
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
    seed: u64,
    epoch: Option<i64>,
    serving: server::Options,
}

impl Options {
    /// `None` asks for help.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let serving = server::Options { address, metadata: None, time_scale: 1.0, exit_with_parent: false };
        let mut options = Self { seed: 1, epoch: None, serving };
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| arguments.next().ok_or_else(|| format!("{argument} needs {what}"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--port" => {
                    let port = value("a port")?.parse().map_err(|_| "--port is no port".to_owned())?;
                    options.serving.address.set_port(port);
                }
                "--metadata" => {
                    let address = value("an address and a port")?.parse();
                    options.serving.metadata = Some(address.map_err(|_| "--metadata is no ADDRESS:PORT".to_owned())?);
                }
                "--seed" => options.seed = value("a number")?.parse().map_err(|_| "--seed is no number".to_owned())?,
                "--epoch" => {
                    let epoch = value("a number")?.parse().map_err(|_| "--epoch is no number".to_owned())?;
                    options.epoch = Some(epoch);
                }
                "--time-scale" => {
                    let scale =
                        value("a number")?.parse::<f64>().ok().filter(|scale| *scale > 0.0 && scale.is_finite());
                    options.serving.time_scale = scale.ok_or("--time-scale is no positive number")?;
                }
                "--exit-with-parent" => options.serving.exit_with_parent = true,
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(Some(options))
    }
}
