#!/bin/sh
# Install cfl-edge as a service, or remove it: user, environment, config, unit, udev rule.
# A second run changes nothing. Plain POSIX sh, because it runs before anything else is installed.
set -eu
umask 022 # the service reads what root installs

usage() {
    cat <<'USAGE'
usage: deploy/install.sh [install|uninstall] [options]

  --dry-run          print every step, change nothing
  --torch KIND       auto, cpu, cuda or jetson (the installed torch). [default: auto]
  --torch-index URL  where pip finds torch; overrides what KIND says
  --board KIND       auto, pi, jetson, arm or pc, for another machine's image. [default: auto]
  --python COMMAND   Python 3.11 or newer. [default: python3]
  --root DIR         install below DIR; creates no user, does not call systemd and udev
  --purge            with uninstall: remove models, config and user too

Exit codes: 0 done, 1 a step failed, 2 wrong usage, 3 this machine is not supported.
USAGE
}

# PyTorch's index of CPU builds (pytorch.org, "Get Started": Linux, Pip, CPU). Without it pip may
# choose a build that pulls in gigabytes of CUDA packages, even on a Raspberry Pi.
CPU_INDEX=https://download.pytorch.org/whl/cpu
NAME=cfl-edge

action=install dry='' torch=auto index='' board=auto python=python3 root='' purge=''
changes=0

say() { printf '%s\n' "$*"; }
fail() { # EXIT_CODE PROBLEM HINT
    printf 'error: %s\n  try: %s\n' "$2" "$3" >&2
    exit "$1"
}

# Print a step, and do it unless this is a dry run.
run() {
    say "+ $*"
    changes=$((changes + 1))
    [ -n "$dry" ] || "$@" || fail 1 "this failed: $*" "see above, then run this script again: it continues"
}

# The same for steps that change the running system.
run_system() {
    if [ -n "$root" ]; then
        say "- skipped with --root: $*"
    elif [ -z "$dry" ] && [ ! -d /run/systemd/system ]; then
        say "- skipped, systemd is not running: $*"
    else
        run "$@"
    fi
}

value_of() { # OPTION REMAINING_ARGUMENTS VALUE
    [ "$2" -ge 2 ] && [ -n "$3" ] || fail 2 "$1 needs a value" "deploy/install.sh --help"
}

while [ $# -gt 0 ]; do
    case $1 in
        install | uninstall) action=$1 ;;
        --dry-run) dry=yes ;;
        --purge) purge=yes ;;
        --torch) value_of "$1" $# "${2-}"; torch=$2; shift ;;
        --torch-index) value_of "$1" $# "${2-}"; index=$2; shift ;;
        --board) value_of "$1" $# "${2-}"; board=$2; shift ;;
        --python) value_of "$1" $# "${2-}"; python=$2; shift ;;
        --root) value_of "$1" $# "${2-}"; root=$2; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail 2 "unknown argument $1" "deploy/install.sh --help" ;;
    esac
    shift
done
case $torch in auto | cpu | cuda | jetson) ;; *)
    fail 2 "--torch is $torch, expected auto, cpu, cuda or jetson" "--torch auto" ;;
esac
case $board in auto | pi | jetson | arm | pc) ;; *)
    fail 2 "--board is $board, expected auto, pi, jetson, arm or pc" "--board auto" ;;
esac
case $root in '' | /*) ;; *) fail 2 "--root is $root, expected an absolute path" "--root $PWD/$root" ;; esac
root=${root%/} # --root / is the running system
[ -z "$purge" ] || [ "$action" = uninstall ] || fail 2 "--purge goes with uninstall" \
    "deploy/install.sh uninstall --purge"

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source_dir=$(dirname -- "$here")
environment=$root/opt/$NAME
marker=$environment/.made-by-install
state=$root/var/lib/$NAME
config=$root/etc/$NAME/learn.toml
unit=$root/etc/systemd/system/$NAME.service
rules=$root/etc/udev/rules.d/99-$NAME.rules

require_root() {
    [ -n "$dry" ] || [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail 3 \
        "this changes the system and needs root" \
        "sudo deploy/install.sh $action, or add --dry-run to see the steps"
}

# ---- the machine ----

refuse_32_bit() {
    bits=$(getconf LONG_BIT 2>/dev/null || echo 64)
    machine=$(uname -m)
    case $bits:$machine in
        64:x86_64 | 64:aarch64) ;;
        64:*) fail 3 "this machine is $machine: PyTorch has no builds for it" \
            "a board with aarch64 or x86_64" ;;
        *) fail 3 "this is a $bits-bit system ($machine): PyTorch and ONNX Runtime have no $bits-bit builds" \
            "the 64-bit image of the system (Raspberry Pi OS 64-bit), on the same board" ;;
    esac
}

model_name() {
    model=$root/proc/device-tree/model
    [ ! -r "$model" ] || tr -d '\0' <"$model"
}

find_board() {
    [ "$board" = auto ] || return 0
    case $(model_name) in
        *"Raspberry Pi"*) board=pi ;;
        *Jetson*) board=jetson ;;
        *) if [ -e "$root/etc/nv_tegra_release" ]; then board=jetson
            elif [ "$(uname -m)" = aarch64 ]; then board=arm
            else board=pc; fi ;;
    esac
}

has_nvidia() { [ -e "$root/proc/driver/nvidia/version" ]; }

choose_torch() {
    [ "$torch" = auto ] || return 0
    case $board in
        jetson) torch=jetson ;;
        pc) if has_nvidia; then torch=cuda; else torch=cpu; fi ;;
        *) torch=cpu ;;
    esac
}

check_torch() {
    case $board:$torch in
        pi:cuda | pi:jetson) fail 3 "--torch is $torch, but a Raspberry Pi has no CUDA" "--torch cpu" ;;
    esac
    if [ "$torch" = jetson ] && [ -z "$index" ]; then
        "$python" -c 'import sys, torch; sys.exit(torch.version.cuda is None)' 2>/dev/null || fail 3 \
            "$python has no torch with CUDA: NVIDIA builds it for your JetPack" \
            "NVIDIA's page 'Installing PyTorch for Jetson Platform' and run this again; or --torch-index URL; or --torch cpu; or deploy/Containerfile.jetson"
    fi
}

check_python() {
    command -v "$python" >/dev/null || fail 3 "$python was not found" "sudo apt-get install python3-venv"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.maxsize < 2**32)' || fail 3 \
        "$("$python" --version 2>&1) is not supported, expected 64-bit Python 3.11 or newer" \
        "--python python3.11; on JetPack 6, which has 3.10: deploy/Containerfile.jetson"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail 3 "$python has no venv" \
        "sudo apt-get install python3-venv"
}

# ---- steps ----

# Identifies the environment: the same line means that nothing has to be done.
fingerprint() {
    sum=$(cd "$source_dir" && find pyproject.toml cfl_edge firmware_host -type f \
        ! -path '*/__pycache__/*' -exec cksum {} + | LC_ALL=C sort | cksum | tr -s ' ' '-')
    say "torch=$torch index=$index python=$("$python" -c 'import platform; print(platform.python_version())') source=$sum"
}

pip() { run "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

make_environment() {
    wanted=$(fingerprint)
    if [ -f "$marker" ] && [ "$(cat "$marker")" = "$wanted" ]; then
        say "= $environment"
        return
    fi
    if [ -d "$environment" ] && [ ! -f "$marker" ]; then
        fail 1 "$environment exists, but this script did not create it" "mv $environment $environment.old"
    fi
    if [ -f "$marker" ] && [ "$(sed 's/ source=.*//; s/ unfinished$//' "$marker")" != "${wanted% source=*}" ]; then
        run rm -r "$environment" # pip would not replace torch by another build
    fi
    run mkdir -p "$environment"
    write "$marker" "${wanted% source=*} unfinished" # the next run sees that this one was interrupted
    if [ "$torch" = jetson ] && [ -z "$index" ]; then
        run "$python" -m venv --system-site-packages "$environment"
    else
        run "$python" -m venv "$environment"
        case $torch in cpu) index=${index:-$CPU_INDEX} ;; esac
        pip torch torchvision ${index:+--index-url "$index"}
    fi
    keep=''
    if [ "$torch" = jetson ]; then # NVIDIA's build stays, or pip says why it cannot
        keep=$environment/.constraints
        [ -n "$dry" ] || "$environment/bin/python" -m pip list --format=freeze 2>/dev/null |
            grep -E '^(torch|torchvision)==' >"$keep" || :
    fi
    pip ${keep:+--constraint "$keep"} "${source_dir}[mqtt,pretrained]"
    if [ -n "$root" ] && [ -z "$dry" ] && [ -f "$environment/bin/$NAME" ]; then
        sed -i "1,2s|$root/opt/|/opt/|" "$environment/bin/$NAME" # as the image will call it
    fi
    if [ -z "$dry" ] && [ "$torch" = cpu ] && "$environment/bin/python" -m pip list 2>/dev/null |
        grep -qi '^nvidia-'; then
        fail 1 "CUDA packages were installed with torch, in spite of --torch cpu" \
            "rm -r $environment, and look at pip's configuration: $python -m pip config list"
    fi
    write "$marker" "$wanted"
}

write() { # FILE TEXT
    say "+ write $1"
    [ -n "$dry" ] || printf '%s\n' "$2" >"$1" || fail 1 "$1 cannot be written" "df -h $(dirname -- "$1")"
}

put() { # FROM TO
    if cmp -s "$1" "$2"; then
        say "= $2"
    else
        run mkdir -p "$(dirname -- "$2")"
        run cp "$1" "$2"
        run chmod 644 "$2"
    fi
}

make_user() {
    if [ -n "$root" ]; then
        say "- skipped with --root: user $NAME"
        return
    fi
    if id -u "$NAME" >/dev/null 2>&1; then
        say "= user $NAME"
    else
        run useradd --system --user-group --home-dir "/var/lib/$NAME" --shell /usr/sbin/nologin "$NAME"
    fi
    for group in video dialout; do
        if ! getent group "$group" >/dev/null; then
            say "! group $group does not exist: sudo groupadd --system $group"
        elif id -nG "$NAME" 2>/dev/null | tr ' ' '\n' | grep -qx "$group"; then
            say "= user $NAME in $group"
        else
            run usermod -aG "$group" "$NAME"
        fi
    done
}

install_all() {
    refuse_32_bit
    find_board
    check_python
    choose_torch
    check_torch
    name=$(model_name)
    say "board: $board${name:+ ($name)}, $(uname -m); torch: $torch"
    require_root
    make_user
    make_environment
    if [ -f "$config" ] && ! cmp -s "$here/learn.toml" "$config"; then
        say "= $config (changed by you, left as it is)"
    else
        put "$here/learn.toml" "$config"
    fi
    before=$changes
    put "$here/$NAME.service" "$unit"
    enabled=$environment/.unit-enabled # not before systemd has it: an interrupted run goes on here
    if [ "$changes" -ne "$before" ] || { [ -z "$root" ] && [ ! -f "$enabled" ]; }; then
        run_system systemctl daemon-reload
        run_system systemctl enable "$NAME"
        [ -n "$root" ] || write "$enabled" yes
    fi
    before=$changes
    put "$here/99-$NAME.rules" "$rules"
    if [ "$changes" -ne "$before" ]; then
        run_system udevadm control --reload
        run_system udevadm trigger --subsystem-match=tty
    fi
    finish
    say "next: edit $config, then sudo systemctl restart $NAME && $environment/bin/cfl-edge doctor"
}

remove() { # FILE_OR_FOLDER
    if [ -e "$1" ] || [ -L "$1" ]; then run rm -r "$1"; else say "= no $1"; fi
}

uninstall_all() {
    require_root
    if [ -f "$unit" ]; then run_system systemctl disable --now "$NAME"; fi
    before=$changes
    remove "$unit"
    [ "$changes" -eq "$before" ] || run_system systemctl daemon-reload
    before=$changes
    remove "$rules"
    [ "$changes" -eq "$before" ] || run_system udevadm control --reload
    if [ ! -d "$environment" ] || [ -f "$marker" ]; then
        remove "$environment"
    else
        say "! $environment stays: this script did not create it"
    fi
    if [ -n "$purge" ]; then
        remove "$root/etc/$NAME"
    elif cmp -s "$here/learn.toml" "$config"; then
        remove "$config"
        run rmdir --ignore-fail-on-non-empty "$root/etc/$NAME"
    elif [ -f "$config" ]; then
        say "! $config stays because you changed it; --purge removes it"
    fi
    if [ -n "$purge" ]; then
        remove "$state"
        if [ -z "$root" ] && id -u "$NAME" >/dev/null 2>&1; then run userdel "$NAME"; fi
    elif [ -d "$state" ]; then
        say "! models in $state and user $NAME stay; --purge removes them"
    fi
    finish
}

finish() {
    if [ -n "$dry" ]; then
        say "dry run: nothing was changed"
    elif [ "$changes" -eq 0 ]; then
        say "nothing to do: everything is up to date"
    else
        say "done"
    fi
}

if [ "$action" = install ]; then install_all; else uninstall_all; fi
