//! What scripts do that work beside themselves, calculate, and clean up behind them.

use super::{CAREFUL, KEY, UP, boot, delivering, joins, plan, scripted};

/// What machines call themselves that run these scripts, or why they never join.
fn check(scripts: &[(&str, Result<&str, &str>)]) {
    for (script, expected) in scripts {
        let script = script.replace("{up}", UP);
        match (scripted(&script), expected) {
            (Ok(plan), Ok(name)) => assert_eq!(plan.hostname, *name, "{script}"),
            (Err(error), Err(why)) => assert!(error.contains(why), "{script}: {error}"),
            (found, _) => assert_eq!(
                found.map(|plan| plan.hostname),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{script}"
            ),
        }
    }
}

#[test]
fn jobs_run_beside_the_script() {
    check(&[
        ("{up} --hostname=a &", Ok("a")),
        ("( {up} --hostname=b ) & wait", Ok("b")),
        ("curl -o x http://x & pid=$!\n{up} --hostname=c", Ok("c")),
        ("exit 1 &\n{up} --hostname=d", Ok("d")),
        ("{ echo x; exit 1; } & wait; {up} --hostname=e", Ok("e")),
        ("set -e\nfalse &\n{up} --hostname=f", Ok("f")),
        (
            "set -eu\nfetch() { curl -o \"$2\" \"$1\"; }\nfetch u /a & one=$!\nfetch v /b & two=$!\nwait \"$one\" || exit 1\nwait \"$two\"\n{up} --hostname=g",
            Ok("g"),
        ),
        ("false & wait $! || {up} --hostname=h", Ok("h")),
        ("name=i; ( name=x ) & wait; {up} --hostname=$name", Ok("i")),
        ("for n in j k; do ( {up} --hostname=$n ) & done; wait", Ok("j")),
        // Who comes first, nobody can tell; once it was waited for, it has come.
        ("( sleep 60; rm -f /root/key ) & {up} --hostname=l", Ok("l")),
        ("rm -f /root/key & wait; {up}", Err("no file /root/key")),
        ("rm -f /root/key & wait $!; {up}", Err("no file /root/key")),
        ("rm -f /root/key & one=$!; true & wait $!; {up} --hostname=m", Ok("m")),
        ("set -e\nfalse & wait $!\n{up}", Err("set -e")),
        ("true & wait $! || {up}", Err("nothing")),
        ("false & wait $! || exit 1; {up}", Err("nothing")),
        ("( set -e; false; {up} ) & wait", Err("set -e")),
        ("a & & b\n{up}", Err("syntax error")),
    ]);
}

#[test]
fn a_trap_at_the_end_is_run_when_the_script_ends() {
    check(&[
        ("trap '{up} --hostname=a' EXIT", Ok("a")),
        ("trap '{up} --hostname=b' 0\nexit 1", Ok("b")),
        ("trap 'rm -f /root/key' EXIT INT TERM\n{up} --hostname=c", Ok("c")),
        ("sh -c \"trap 'rm -f /root/key' EXIT; exit 1\"\n{up}", Err("no file /root/key")),
        ("sh -c \"trap 'rm -f /root/key' EXIT; trap - EXIT\"\n{up} --hostname=d", Ok("d")),
        ("sh -c \"trap 'rm -f /root/key' INT TERM\"\n{up} --hostname=e", Ok("e")),
        ("( trap 'rm -f /root/key' EXIT )\n{up}", Err("no file /root/key")),
        ("trap 'rm -f /root/key' EXIT\n( true )\n{up} --hostname=f", Ok("f")),
        ("sh -c \"trap 'rm -f /root/key' EXIT; exec true\"\n{up} --hostname=g", Ok("g")),
    ]);
    // What follows a script that failed finds no key.
    let document = delivering(CAREFUL, &["sh", "/root/join.sh", "agent_1", "enroll"]);
    let document = document.replace("]],", "], [\"tailscale\", \"up\", \"--auth-key=file:/root/key\"]],");
    let why = plan(&document).unwrap_err();
    assert!(why.contains("no file /root/key"), "{why}");
}

#[test]
fn functions_have_variables_of_their_own() {
    check(&[
        ("n=a; f() { local n=b; n=c; }; f; {up} --hostname=$n", Ok("a")),
        ("n=a; f() { local n; {up} --hostname=x$n; }; f", Ok("xa")),
        ("n=a; f() { n=b; }; f; {up} --hostname=$n", Ok("b")),
        ("f() { local m=a n=b; g; }; g() { {up} --hostname=$m$n; }; f", Ok("ab")),
        ("set -u; f() { local n=a; }; f; {up} --hostname=$n", Err("n is not set")),
        ("f() { {up} --hostname=c; } >>/var/log/x 2>&1\nf", Ok("c")),
        ("f() ( n=d; {up} --hostname=$n )\nf", Ok("d")),
        ("f() { n=$1; } </dev/null; f e; {up} --hostname=$n", Ok("e")),
        ("{ echo x; echo y; } >/root/key; {up}", Err("nobody knows what /root/key holds")),
    ]);
}

#[test]
fn numbers_are_calculated_and_loops_end_when_they_say_so() {
    check(&[
        ("{up} --hostname=a$((1 + 2 * 3))", Ok("a7")),
        ("n=4; {up} --hostname=a$(( (n - 1) * $n % 5 ))", Ok("a2")),
        ("{up} --hostname=a$((010 + -1))", Ok("a7")),
        ("{up} --hostname=a$((3 > 2 && !0))-$((unset))", Ok("a1-0")),
        ("{up} --hostname=a$((1 / 0))", Err("host name cannot be told")),
        ("{up} --hostname=a$((RANDOM + $(date +%s)))", Err("host name cannot be told")),
        ("n=0; while [ $n -lt 3 ]; do n=$((n + 1)); done; {up} --hostname=b$n", Ok("b3")),
        ("n=0; until [ $n -eq 3 ]; do n=$((n + 1)); [ $n -eq 2 ] && break; done; {up} --hostname=b$n", Ok("b2")),
        ("n=0; while [ $n -lt 3 ]; do n=$((n + 1)); done; [ $n -eq 3 ] || exit 1; {up} --hostname=c", Ok("c")),
        // Nobody follows a loop for ever; behind it, what it changes is not known.
        ("n=0; while [ $n -lt 999 ]; do n=$((n + 1)); done; [ $n -eq 999 ] || exit 1; {up} --hostname=d", Ok("d")),
        ("n=0; while [ $n -lt 999 ]; do n=$((n + 1)); done; {up} --hostname=$n", Err("host name cannot be told")),
        ("while :; do sleep 1; done; {up} --hostname=e", Ok("e")),
        // A retry gives up after as many times as it says.
        (
            "try() { n=1; until \"$@\"; do [ $n -lt 3 ] || return 1; n=$((n + 1)); done; }\ntry tailscale up --authkey=file:/no || exit 1\n{up}",
            Err("no file /no"),
        ),
        (
            "try() { n=1; until \"$@\"; do [ $n -lt 3 ] || return 1; n=$((n + 1)); done; }\ntry tailscale up --authkey=file:/no || {up} --hostname=f$n",
            Ok("f3"),
        ),
    ]);
}

#[test]
fn texts_are_taken_apart_and_put_together() {
    check(&[
        ("n=agent-1.example.com; {up} --hostname=${n%%.*}", Ok("agent-1")),
        ("n=agent-1.example.com; {up} --hostname=${n%.*}", Ok("agent-1.example")),
        ("n=/a/b/c; {up} --hostname=${n##*/}", Ok("c")),
        ("n=a-b-c; {up} --hostname=${n#*-}", Ok("b-c")),
        ("n=a-b; {up} --hostname=${n#x}", Ok("a-b")),
        ("n='a*b'; {up} --hostname=${n%\"*b\"}", Ok("a")),
        ("n='axb'; {up} --hostname=${n%\"*b\"}", Ok("axb")),
        ("n=abc; {up} --hostname=a${#n}", Ok("a3")),
        ("n=$(curl -s http://x); {up} --hostname=${n%x}", Err("host name cannot be told")),
        ("{up} --hostname=\"$(printf '%s-%d%%' a 7 | tr -d %)\"", Err("host name cannot be told")),
        ("{up} --hostname=\"$(printf 'a-%s-%d' b 7)\"", Ok("a-b-7")),
        ("{up} --hostname=\"$(printf '%s' a b c)\"", Ok("abc")),
        ("printf '%s\\n' \"$(cat /root/key)\" >/k; tailscale up --authkey=file:/k --hostname=p", Ok("p")),
        ("printf %x 12 >/k; tailscale up --authkey=file:/k", Err("nobody knows what /k holds")),
        ("read -r one two <<EOF\na b c\nEOF\n{up} --hostname=$one-${two#* }", Ok("a-c")),
        ("read -r key </root/key; tailscale up --authkey=$key --hostname=q", Ok("q")),
        ("read -r x </no/such; {up} --hostname=$x", Err("host name cannot be told")),
        ("while read -r n; do last=$n; done <<EOF\na\nb\nEOF\n{up} --hostname=$last", Ok("b")),
        ("cat /root/key | tee /k; tailscale up --authkey=file:/k --hostname=r", Ok("r")),
        ("cat </root/key >/k; tailscale up --authkey=file:/k --hostname=s", Ok("s")),
        ("echo '{up} --hostname=t' | sh", Ok("t")),
        ("case agent-7 in [!a]*) exit 1 ;; [a-c]gent-[0-9]) {up} --hostname=u ;; esac", Ok("u")),
        ("case '*' in \"?\") exit 1 ;; '*') {up} --hostname=v ;; esac", Ok("v")),
        ("[ -s /root/key ] && [ -x /root/key ] || {up} --hostname=w", Ok("w")),
    ]);
}

/// The careful script, faster: what it needs is fetched while it does the rest.
const FASTER: &str = r#"#!/bin/sh
set -eu
hostname=$1
key_file=/root/key
work=/root/work
trap 'rm -rf "$key_file" "$work"' EXIT
say() { echo "$1" >>/root/status; }
give_up() {
    say "failed: $1"
    exit 1
}
fetch() {
    local url=$1 file=$2 tried=0
    until curl -fsS --output "$file" "$url"; do
        tried=$((tried + 1))
        [ "$tried" -lt 5 ] || return 1
        sleep "$tried"
    done
}
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) give_up "what machine is this?" ;;
esac
mkdir -p "$work"
fetch "https://pkgs.tailscale.com/stable/tailscale_1.102.3_$arch.tgz" "$work/tgz" &
package=$!
( timedatectl show || exit 1 ) &
clock=$!
wait "$package" || give_up "package: not fetched"
[ -s "$work/tgz" ] || give_up "package: empty"
cat >/etc/systemd/system/tailscaled.service <<'UNIT'
[Service]
ExecStart=/usr/sbin/tailscaled
UNIT
wait "$clock" || true
systemctl enable --now tailscaled || give_up "tailscaled does not start"
tailscale up --auth-key="file:$key_file" --hostname="${hostname%%.*}" --timeout=120s || give_up "not joined"
say "joined"
"#;

#[test]
fn a_script_that_fetches_beside_itself_is_followed() {
    let call = |script: &str| boot(&delivering(script, &["sh", "/root/join.sh", "agent-1.example", "install"]));
    let good = call(FASTER);
    assert_eq!(good.join, Ok(joins("agent-1", true)), "{:?}", good.log);
    assert!(!format!("{good:?}").contains(KEY));
    for (old, new, why) in [
        ("trap 'rm", "rm -f \"$key_file\"; trap 'rm", "no file /root/key"),
        ("wait \"$package\" ||", "false ||", "nothing comes to"),
        ("mkdir -p", "exit 0 # mkdir -p", "nothing comes to"),
        ("%%.*}", "}_1", "host name"),
        ("package=$!", "package=$(", "syntax error"),
    ] {
        assert!(FASTER.contains(old), "{old}");
        let why_not = call(&FASTER.replace(old, new)).join.unwrap_err();
        assert!(why_not.contains(why), "{new}: {why_not}");
    }
}
