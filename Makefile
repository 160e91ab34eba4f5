# What to build, run and test. Needs Go, gcc, make and git; `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO      ?= go
VERSION ?= $(or $(patsubst v%,%,$(shell git describe --tags --match 'v*' --dirty 2>/dev/null)),0.1.0-dev)
COMMIT  ?= $(or $(shell git rev-parse --short=12 HEAD 2>/dev/null),unknown)

# Prerequisites: every non-test Go file of a tree, so that nothing is rebuilt needlessly.
go_files       = $(shell find $(wildcard $(1)) -name '*.go' ! -name '*_test.go')
# The agent carries the SDK's source and the templates of plugin projects.
CARRIED        := sdk.go LICENSE plugins/python/requirements.txt \
                  $(shell find core/wire core/record plugins/sdk plugins/scaffold plugins/python/barnabas_plugin -type f ! -name '*.pyc' ! -name '*_test.go' ! -path '*/testdata/*')
AGENT_SOURCES  := $(call go_files,cmd core sources) $(CARRIED) go.mod go.sum
PLUGIN_SOURCES := $(call go_files,plugins core/record core/wire) go.mod go.sum

# plugins/interceptors/filter/main.go → bin/plugins/barnabas-interceptor-filter
PLUGIN_MAINS := $(wildcard plugins/interceptors/*/main.go plugins/serializers/*/main.go plugins/partitioners/*/main.go)
plugin_binary = bin/plugins/barnabas-$(patsubst %s,%,$(word 2,$(subst /, ,$(1))))-$(word 3,$(subst /, ,$(1)))
PLUGINS      := $(foreach main,$(PLUGIN_MAINS),$(call plugin_binary,$(main)))

.PHONY: build run test check unit end-to-end test-plugin-kills test-plugin-restarts test-tailer-model test-systemd test-power-loss test-crash-loop test-seeded-bugs test-socket-kills test-spool bench lint package clean help

## build: bin/barnabas and every built-in plugin as bin/plugins/barnabas-<kind>-<name>
build: bin/barnabas $(PLUGINS)

# cgocheck=0: each record is handed to librdkafka by a call into C, whose arguments would
# be checked each time. It is no setting of //go:debug, so the linker puts it where the
# runtime looks for its defaults; GODEBUG=cgocheck=1 in the environment turns it on.
AGENT_LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X runtime.godebugDefault=cgocheck=0

bin/barnabas: $(AGENT_SOURCES) bin/.stamp
	$(GO) build -trimpath -ldflags "$(AGENT_LDFLAGS)" -o $@ ./cmd/agent

# Touched only when version or commit change.
bin/.stamp: FORCE
	@mkdir -p bin
	@echo "$(VERSION) $(COMMIT)" | cmp --silent - $@ || echo "$(VERSION) $(COMMIT)" > $@
.PHONY: FORCE
FORCE:

# Plugins are pure Go, so their binaries need no libraries.
define plugin_rule
$(call plugin_binary,$(1)): $(PLUGIN_SOURCES)
	CGO_ENABLED=0 $(GO) build -trimpath -o $$@ ./$(dir $(1))
endef
$(foreach main,$(PLUGIN_MAINS),$(eval $(call plugin_rule,$(main))))

## run: build, then run agent.hcl with an embedded broker
run: build
	bin/barnabas run --dev --config agent.hcl

## test: everything that CI runs
test: check unit end-to-end
	@.ci/kafka-notice
	@.ci/python-notice

check:
	@unformatted=$$(gofmt -l $(wildcard *.go cmd core sources plugins packaging test bench)); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

# Two packages at a time: what waits for processes and timers needs the other core.
TEST := $(GO) test -race -p 2 -timeout 15m

unit:
	$(TEST) $$($(GO) list ./core/... ./sources/... ./plugins/... ./bench/...)

# Results of these depend on binaries and on the tree, which Go's cache does not see.
end-to-end: build
	$(TEST) -count=1 . ./cmd/... ./packaging/... ./test/...

## test-plugin-kills: 1,000 kill -9 of random plugins under load, against a real Kafka
test-plugin-kills: build
	BARNABAS_REQUIRE_KAFKA=1 BARNABAS_PLUGIN_KILLS=1000 $(GO) test -count=1 -timeout 60m -v -run '^TestPluginsKilledAtRandom$$' ./test/endtoend

## test-plugin-restarts: 1,000 restarts of a plugin; no descriptor, goroutine, socket or control group may be left
test-plugin-restarts:
	BARNABAS_TEST_RESTARTS=1000 $(GO) test -count=1 -timeout 30m -run 'TestHostile/P15' ./core/pluginhost

## test-power-loss: 100 losses of power at each step of the stores, with strace; LOSSES=N changes the number
LOSSES ?= 100
test-power-loss:
	BARNABAS_REQUIRE_STRACE=1 BARNABAS_TEST_LOSSES=$(LOSSES) $(GO) test -count=1 -timeout 60m -v ./test/powerloss

## test-crash-loop: 1,000 kill -9 of the agent while files rotate and the broker (BROKER=fake, or kafka) restarts; KILLS=N
KILLS  ?= 1000
BROKER ?= fake
test-crash-loop: build
	BARNABAS_CRASH_KILLS=$(KILLS) BARNABAS_CRASH_BROKER=$(BROKER) $(GO) test -count=1 -timeout 120m -v -run Random ./test/crash

## test-seeded-bugs: builds the tree with one known bug at a time; the tests must find each
test-seeded-bugs:
	BARNABAS_REQUIRE_STRACE=1 $(GO) test -count=1 -timeout 30m -v ./test/seeded

## test-socket-kills: 50 kill -9 of the agent while 50 connections send 20,000 records each, over TCP and unix
test-socket-kills: build
	BARNABAS_REQUIRE_KAFKA=1 BARNABAS_SOCKET_KILLS=50 $(GO) test -count=1 -timeout 30m -v -run '^TestSocketsUnderKill$$' ./test/endtoend

## test-systemd: the packaged unit in a Debian that is booted in a container; needs root, debootstrap and systemd-container
test-systemd: build package
	BARNABAS_TEST_SYSTEMD=1 $(GO) test -count=1 -timeout 15m -v -run '^TestBooted$$' ./test/systemd

## test-tailer-model: a million actions of the file source's model, on three filesystems; as root
test-tailer-model:
	BARNABAS_REQUIRE_MOUNTS=1 $(GO) test -count=1 -timeout 60m -v -run '^TestModel$$' ./sources/file -rapid.checks=6000 -rapid.steps=60

## test-spool: 200 kills of a process that appends to a spool, and 3000 lives of one beside its model
test-spool:
	BARNABAS_TEST_CRASHES=200 $(GO) test -count=1 -timeout 30m -v -run 'Kills' ./core/spool
	$(GO) test ./core/spool -count=1 -timeout 30m -v -run 'TestModel' -rapid.checks=3000

## bench: the benchmarks of docs/benchmarks.md; BENCH="-only NAME" chooses
bench: build
	$(GO) run ./bench $(BENCH)

GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT         := bin/tools/golangci-lint-$(GOLANGCI_LINT_VERSION)

## lint: the linters of .golangci.yml, at a pinned version
lint: $(GOLANGCI_LINT)
	$(GOLANGCI_LINT) run ./...

$(GOLANGCI_LINT):
	@mkdir -p bin/tools
	GOBIN=$(CURDIR)/bin/tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv bin/tools/golangci-lint $@

NFPM_VERSION := v2.45.0
NFPM         := bin/tools/nfpm-$(NFPM_VERSION)

## package: .deb and .rpm in dist/
package: build $(NFPM)
	@rm -rf dist && mkdir -p dist/stripped && cp -r bin/barnabas bin/plugins dist/stripped/
	strip --strip-debug dist/stripped/barnabas dist/stripped/plugins/barnabas-*
	VERSION=$(VERSION) ARCH=$$($(GO) env GOARCH) $(NFPM) package --config packaging/nfpm.yaml --packager deb --target dist
	VERSION=$(VERSION) ARCH=$$($(GO) env GOARCH) $(NFPM) package --config packaging/nfpm.yaml --packager rpm --target dist
	@rm -r dist/stripped

$(NFPM):
	@mkdir -p bin/tools
	GOBIN=$(CURDIR)/bin/tools $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv bin/tools/nfpm $@

## clean: remove what was built
clean:
	rm -rf bin dist

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
