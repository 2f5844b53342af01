# Shortcuts over CMake; `make help` lists them. Everything is built under build/.
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
RELEASE := build/release
# Read by CMake where a build folder is configured for the first time.
ifneq ($(shell command -v ninja),)
export CMAKE_GENERATOR ?= Ninja
endif
ifneq ($(shell command -v ccache),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
endif

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

# The command line alone needs no test framework: a fresh build folder leaves the tests out, `make test` adds them.
$(RELEASE)/CMakeCache.txt:
	@cmake --preset release -DOCTAVO_BUILD_TESTS=OFF || \
	  { echo "Is a package missing? Run scripts/install_deps.sh, or make demo, which does that first." >&2; exit 1; }

.PHONY: build
build: $(RELEASE)/CMakeCache.txt ## builds build/release/octavo; installs nothing
	@cmake --build $(RELEASE) -j $(JOBS) --target octavo

.PHONY: deps
deps: ## installs the packages that the build needs
	@scripts/install_deps.sh

.PHONY: demo
demo: deps ## installs what is needed, builds, quantizes the embedded models and shows their masks
	@$(MAKE) build
	@$(RELEASE)/octavo demo -o octavo-demo

# $(call ctest,PRESET,CTEST ARGUMENTS): configure, build everything, test.
define ctest
	scripts/install_deps.sh --tests
	tools/make_venv.sh
	cmake --preset $(1) -DOCTAVO_BUILD_TESTS=ON
	cmake --build build/$(1) -j $(JOBS)
	ctest --test-dir build/$(1) -j $(JOBS) --no-tests=error --output-on-failure $(2)
endef

.PHONY: test
test: ## builds and runs every test
	@$(call ctest,release,-LE large)

.PHONY: test-asan
test-asan: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(call ctest,asan,-LE large)

.PHONY: test-tsan
test-tsan: ## the tests under ThreadSanitizer
	@$(call ctest,tsan,-LE 'large|python|consumer')

.PHONY: test-large
test-large: ## the tests on the large models; needs the network or ../shared, and 2 GB of disk
	@tools/get_models.sh
	@$(call ctest,release,-L large)

.PHONY: test-exports
test-exports: ## models exported from PyTorch against ONNX Runtime; needs the network once, and 10 GB of disk
	@# What cannot be exported has been named; the test runs what there is.
	@if tools/make_export_venv.sh; then .venv-export/bin/python tools/export_models.py || true; fi
	@$(call ctest,release,-R '^e2e[.]exports_large$$')

.PHONY: tidy
tidy: ## clang-tidy over our sources
	@cmake --preset dev -DOCTAVO_BUILD_TESTS=ON >/dev/null
	@cmake --build build/dev -j $(JOBS) --target octavo_onnx_schema
	@tools/tidy.sh build/dev

.PHONY: format
format: ## clang-format over our sources
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

.PHONY: fuzz
fuzz: ## FUZZ_SECONDS (60) of every fuzz target; needs clang
	@tools/fuzz.sh $(FUZZ_SECONDS)

.PHONY: bench
bench: build ## times Octavo, OpenVINO and ONNX Runtime side by side
	@tools/make_venv.sh --peers --strict
	@tools/get_models.sh
	@.venv/bin/python bench/peers.py $(BENCH_ARGUMENTS)

.PHONY: install
install: build ## installs into PREFIX (/usr/local)
	@cmake --build $(RELEASE) -j $(JOBS)
	@cmake --install $(RELEASE) --prefix $(PREFIX)

.PHONY: clean
clean: ## removes what was built
	@rm -rf build octavo-demo
