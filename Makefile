# What a developer does. CI does the same: `.ci/run` calls these.

.DEFAULT_GOAL := help
.PHONY: help run test check format lint docs deny proto clients bench

CARGO := cargo
TOOLS := target/tools
BUF := $(TOOLS)/node_modules/.bin/buf
DENY := $(TOOLS)/bin/cargo-deny

help: ## Says what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

run: ## Builds Halyard and starts it with a database and a demo project of its own
	@.ci/setup run
	$(CARGO) run --locked -- dev

test: clients ## Runs every test
	$(CARGO) test --locked

check: format lint docs deny proto ## Runs every gate but the tests

format: ## Checks that the code is formatted
	$(CARGO) fmt --check

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

clients: ## Prepares the clients in other languages that the tests run
	@.ci/setup test

bench: ## Measures evaluation, propagation and the start beside their floors (docs/performance.md)
	$(CARGO) bench --locked

$(DENY):
	$(CARGO) install cargo-deny --locked --version 0.20.2 --root $(TOOLS)

$(BUF):
	npm install --no-audit --no-fund --prefix $(TOOLS) @bufbuild/buf@1.75.0
