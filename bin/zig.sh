# The C compiler and linker for every processor, sourced by bin/package and tests/arm from the root of the tree:
# `install_zig DIRECTORY` puts zig and cargo-zigbuild (bin/package.txt) there, with pip, and in PATH. It says so before it does.
install_zig() {
    if ! cmp -s bin/package.txt "$1/installed.txt"; then
        python3 -c 'import ensurepip, venv' 2>/dev/null || {
            printf '%s: %s\n' "$0" "python3 with venv is needed" "$0" "hint: sudo apt-get install python3 python3-venv" >&2
            exit 69
        }
        echo "$0: installing with pip in $1: $(grep -v '^#' bin/package.txt | paste -s -d ' ')" >&2
        rm -rf "$1"
        python3 -m venv "$1"
        "$1/bin/pip" install --quiet --disable-pip-version-check --requirement bin/package.txt
        cp bin/package.txt "$1/installed.txt"
    fi
    # Where they keep what they compile.
    export PATH="$1/bin:$PATH" ZIG_GLOBAL_CACHE_DIR="$1/cache" CARGO_ZIGBUILD_CACHE_DIR="$1/cache"
}
