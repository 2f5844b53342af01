#!/usr/bin/env bash
# Installs the Debian packages that Octavo needs. Does nothing when all of them are there.
#
#   scripts/install_deps.sh            to build and run Octavo
#   scripts/install_deps.sh --tests    also what `make test` needs
#   scripts/install_deps.sh --list     prints the packages, installs nothing
set -euo pipefail

packages=(
  build-essential cmake ninja-build pkg-config git ca-certificates
  libdnnl-dev libhwy-dev             # arithmetic
  libonnx-dev libprotobuf-dev protobuf-compiler  # the ONNX file format
  libjpeg-dev libspng-dev zlib1g-dev  # pictures, .npz files
  libcli11-dev libfmt-dev nlohmann-json3-dev
)
test_packages=(
  libgtest-dev libgmock-dev python3 python3-venv
  chromium fonts-dejavu-core  # pages in a real browser
)

list_only=false
for argument in "$@"; do
  case "$argument" in
    --tests) packages+=("${test_packages[@]}") ;;
    --list) list_only=true ;;
    *)
      sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//' >&2
      exit 2
      ;;
  esac
done
if $list_only; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  echo "install_deps: this is not a Debian system (no apt-get); install what corresponds to: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "install_deps: all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps: needs root or sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"; }

echo "install_deps: installing ${missing[*]}"
apt update
apt install -y --no-install-recommends "${missing[@]}"
