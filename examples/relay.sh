#!/bin/sh
# Three machines, all on this one: a relay, Alice, and Bob, who is away when she writes to him.
# Run it from anywhere:  sh examples/relay.sh
set -eu
cd "$(dirname "$0")/.."

# 1. Build the programs. (PROFILE=dev is quicker to build, and slower to run.)
profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" --bins
case $profile in dev) built=debug ;; *) built=$profile ;; esac
PATH=${CARGO_TARGET_DIR:-$PWD/target}/$built:$PATH

# Everything else happens in a folder that is gone at the end, and so are the relay and Bob's listener.
work=$(mktemp -d)
relay=
listener=
clean_up() {
    for job in $relay $listener; do kill "$job" 2>/dev/null || :; done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What follows would be three machines. Here it is three key rings: AC_HOME says whose.
alice() { AC_HOME=$work/alice "$@"; }
bob() { AC_HOME=$work/bob "$@"; }

# Waits until a job has said something: wait_for JOB FILE PATTERN
wait_for() {
    tries=100
    until grep -q "$3" "$2"; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ] || ! kill -0 "$1" 2>/dev/null; then
            echo "nobody said '$3', but:" >&2
            cat "$2" >&2
            exit 1
        fi
        sleep 0.1
    done
}

# 2. Alice and Bob have swapped their public key files, as in quickstart.sh.
alice ac-keygen > "$work/alice.pub" 2> /dev/null
bob ac-keygen > "$work/bob.pub" 2> /dev/null
alice ac-keygen --import "$work/bob.pub" --as bob > /dev/null 2>&1
bob ac-keygen --import "$work/alice.pub" --as alice > /dev/null 2>&1

# 3. The relay runs somewhere that both can reach. It prints its public key file, for its users.
#    Port 0 asks the system for a free one; you would choose your own, and say it with --address.
echo '$ ac-relay 127.0.0.1:0 > home.pub                # the relay'
AC_HOME=$work/relay ac-relay 127.0.0.1:0 > "$work/home.pub" 2> "$work/relay.said" &
relay=$!
wait_for "$relay" "$work/relay.said" 'listening on '
cat "$work/relay.said"
port=$(sed -n 's/^ac-relay: listening on .*:\([0-9]*\) (tcp).*/\1/p' "$work/relay.said")

# 4. Both file it under a name of their own.
echo '$ ac-keygen --import home.pub --as home          # Alice, and Bob'
alice ac-keygen --import "$work/home.pub" --as home
bob ac-keygen --import "$work/home.pub" --as home > /dev/null 2>&1

# 5. Bob is away. What Alice writes waits at the relay: exit code 7, or 0 if --queue says that this is
#    enough.
echo "\$ echo \"see you at eight\" | ac-send --via home@127.0.0.1:$port bob    # Alice"
queued=0
echo "see you at eight" | alice ac-send --via "home@127.0.0.1:$port" bob || queued=$?
echo "ac-send ended with code $queued"

# 6. Bob comes, and gets it: once, and nobody in between could read it.
echo "\$ ac-listen -n 2 --via home@127.0.0.1:$port                           # Bob"
AC_HOME=$work/bob ac-listen -n 2 --via "home@127.0.0.1:$port" > "$work/arrived" 2> "$work/said" &
listener=$!
wait_for "$listener" "$work/arrived" 'see you at eight'
cat "$work/said"

# 7. Now he is there, and Alice sees it: exit code 0 is his own acknowledgement, not the relay's.
echo "\$ echo \"are you there?\" | ac-send --via home@127.0.0.1:$port bob      # Alice"
delivered=0
echo "are you there?" | alice ac-send --via "home@127.0.0.1:$port" bob || delivered=$?
echo "ac-send ended with code $delivered"

# 8. And this is what came out of Bob's listener.
bobs_code=0
wait "$listener" || bobs_code=$?
listener=
echo "ac-listen ended with code $bobs_code and printed:"
cat "$work/arrived"

[ "$queued" -eq 7 ] && [ "$delivered" -eq 0 ] && [ "$bobs_code" -eq 0 ]
[ "$(cat "$work/arrived")" = "$(printf 'see you at eight\nare you there?')" ]
