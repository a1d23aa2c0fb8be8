#!/bin/sh
# Two people, Alice and Bob, and one sealed message, on this machine.
# Run it from anywhere:  sh examples/quickstart.sh
set -eu
cd "$(dirname "$0")/.."

# 1. Build the programs. (PROFILE=dev is quicker to build, and slower to run.)
profile=${PROFILE:-release}
cargo build --quiet --profile "$profile" --bins
case $profile in dev) built=debug ;; *) built=$profile ;; esac
PATH=${CARGO_TARGET_DIR:-$PWD/target}/$built:$PATH

# Everything else happens in a folder that is gone at the end, and so is Bob's listener.
work=$(mktemp -d)
listener=
clean_up() {
    if [ -n "$listener" ]; then kill "$listener" 2>/dev/null || :; fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What follows would be two machines. Here it is two key rings: AC_HOME says whose.
alice() { AC_HOME=$work/alice "$@"; }
bob() { AC_HOME=$work/bob "$@"; }

# 2. Each makes an identity. The secret stays at home; stdout is the public key file, to give away.
echo '$ ac-keygen > alice.pub       # Alice'
alice ac-keygen > "$work/alice.pub"
echo '$ ac-keygen > bob.pub         # Bob'
bob ac-keygen > "$work/bob.pub"

# 3. They swap the files, by mail, USB stick or chat, and each files the other's under a name.
#    (On the phone, "ac-keygen --verify" gives both the same number to compare.)
echo '$ ac-keygen --import bob.pub --as bob        # Alice'
alice ac-keygen --import "$work/bob.pub" --as bob
echo '$ ac-keygen --import alice.pub --as alice    # Bob'
bob ac-keygen --import "$work/alice.pub" --as alice

# 4. Bob listens for one message. Port 0 asks the system for a free one; you would choose your own.
echo '$ ac-listen -1 127.0.0.1:0    # Bob'
AC_HOME=$work/bob ac-listen -1 127.0.0.1:0 > "$work/arrived" 2> "$work/said" &
listener=$!

# His listener says on stderr where it hears, once it does.
port=
tries=100
while [ -z "$port" ]; do
    port=$(sed -n 's/^ac-listen: listening on .*:\([0-9]*\) (tcp).*/\1/p' "$work/said")
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ] || ! kill -0 "$listener" 2>/dev/null; then
        echo 'the listener did not get ready; it said:' >&2
        cat "$work/said" >&2
        exit 1
    fi
    [ -n "$port" ] || sleep 0.1
done
cat "$work/said"

# 5. Alice sends. Exit code 0 means that Bob proved his key, and that his output has every byte.
echo "\$ echo \"hi bob\" | ac-send bob@127.0.0.1:$port    # Alice"
code=0
echo "hi bob" | alice ac-send "bob@127.0.0.1:$port" || code=$?
echo "ac-send ended with code $code"

# 6. And this is what came out of Bob's listener.
bobs_code=0
wait "$listener" || bobs_code=$?
listener=
echo "ac-listen ended with code $bobs_code and printed:"
cat "$work/arrived"

[ "$code" -eq 0 ] && [ "$bobs_code" -eq 0 ] && [ "$(cat "$work/arrived")" = "hi bob" ]
