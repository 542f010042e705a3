# The table of contents of this checkout: `make help` lists what can be done.
# Every target installs its dependencies on a bare Debian machine (tools/bootstrap) and writes to .work only.
MAKEFLAGS += --no-print-directory
TOOLS := tools
# step NAME WHAT COMMAND: one line of progress, the output in .work/log/NAME.log
STEP := $(TOOLS)/step
ENV := . $(TOOLS)/env.sh &&
SHELL := /bin/bash
PRIVATE := $(TOOLS)/in_private_ns
# make unit PYTEST='-k ports'   make integration TARGETS=tproxy_rule   make sanity SANITY='--test validate-modules'
PYTEST ?=
TARGETS ?=
SANITY ?=
N ?= 1000000
# The emulated processor of `make kernels`, and the Debian releases of `make bcc` and `make platforms`.
ARCH ?= amd64
SUITES ?= trixie sid
# Processes of the unit tests. `make test` sets 0, which is none beside pytest: its lanes use all processors already.
JOBS ?= auto
# What tools/check_english.py accepts: percent of texts with indirect words, and a number of metaphors.
ENGLISH ?= --docstrings 3 --messages 3 --plugin-documentation 3 --markdown 3 --metaphors 20

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 24

demo: bootstrap ## a demonstration: routers in namespaces, rules by Ansible, real packets (needs root)
	@$(ENV) tests/system/demo/run

# Two lanes for two cores, of about the same length: tests of functions and of this machine's kernel; tests that run
# Ansible, and those that leave a core idle for a while.
test: ## all checks and tests, cheap ones first (needs root)
	@$(TOOLS)/run_tests "bootstrap lint layout-check blob-check pythons" \
		"unit kernel-slice pyroute2-slice contract fuzz-slice clang bcc-slice sanity" \
		"integration-slice molecule commit-confirm-slice rollout-slice proxies daemons-slice boot helper openziti-slice \
		kernels-slice bench-slice storm-slice"

bench: bootstrap ## measure the data plane, with plots in .work/bench (needs root)
	@mkdir -p .work/bench
	@$(ENV) tests/bench/run --json .work/bench/figures.json
	@$(ENV) python tests/bench/plot.py .work/bench/figures.json .work/bench

bootstrap: ## install missing Debian packages and build .work/venv; done by every other target
	@$(TOOLS)/bootstrap

lint: bootstrap english-check ## style and types of Python; style of YAML, C, shell, English, changelog and documentation
	@$(STEP) yamllint "yamllint" yamllint --strict .
	@$(STEP) ruff "ruff check" ruff check --output-format concise
	@$(STEP) ruff-format "ruff format" ruff format --check
	@$(STEP) mypy "mypy" mypy
	@$(STEP) clang-format "clang-format" $(TOOLS)/clang_format
	@$(STEP) shellcheck "shellcheck" $(TOOLS)/shellcheck
	@$(STEP) codespell "codespell" codespell
	@$(STEP) reuse "licences and copyright (REUSE)" reuse lint
	@$(STEP) changelog "changelog fragments" antsibull-changelog lint
	@$(STEP) docs "documentation of plugins and role" antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .
	@$(STEP) ansible-lint "ansible-lint" ansible-lint

english: bootstrap ## indirect words and metaphors: each hit, and the share of docstrings, messages and documents
	@$(ENV) python $(TOOLS)/check_english.py

english-check: bootstrap ## the same against the limits in ENGLISH; part of lint
	@$(STEP) english "English" python $(TOOLS)/check_english.py $(ENGLISH)

figures: bootstrap ## sizes, types, and the files that each module ships
	@$(ENV) python $(TOOLS)/code_figures.py

layout: bootstrap ## write abi/layout.py from bpf/abi.h and bpf/maps.h
	@$(STEP) layout "bpf/abi.h to abi/layout.py" python bpf/gen_layout.py

layout-check: bootstrap ## compare abi/layout.py with bpf/abi.h, as a compiler sees it
	@$(STEP) layout-check "abi/layout.py agrees with bpf/abi.h" python bpf/gen_layout.py --check

blob: bootstrap ## compile bpf/ to the prebuilt programs: blob of the role, fail_closed
	@$(STEP) blob "compile the prebuilt programs" python bpf/build_blob.py

blob-check: bootstrap ## compare the prebuilt programs with bpf/
	@$(STEP) blob-check "the prebuilt programs agree with bpf/" bpf/build_blob.py --check

unit: bootstrap ## tests without root, on a fake kernel
	@$(STEP) unit "unit tests" pytest --numprocesses $(JOBS) tests/unit $(PYTEST)

failures: bootstrap ## a failure and a kill at each step of each operation, on a fake kernel
	@$(STEP) failures "a failure at each step" env TPROXY_STEPS=0 \
		pytest --numprocesses auto $(addprefix tests/unit/plugins/module_utils/_tproxy/,operations/test_failures.py \
		commit_confirm/test_change.py resources/test_migrate.py persistence/test_state_file.py) $(PYTEST)

pythons: bootstrap ## unpack the Pythons of Debian's next release to .work/pythons, for the unit tests of the command line
	@$(STEP) pythons "Pythons of Debian's next release" $(TOOLS)/debian_pythons

coverage: bootstrap ## lines and branches of plugins/ that the unit tests run, and the least covered files
	@$(STEP) coverage "unit tests, measured" coverage run -m pytest tests/unit $(PYTEST)
	@$(ENV) coverage json --quiet -o .work/cache/coverage.json && python $(TOOLS)/report_coverage.py .work/cache/coverage.json

kernel: bootstrap ## tests of program, adapters and operations on the kernel of this machine (needs root)
	@$(STEP) kernel "tests on this kernel" $(PRIVATE) pytest tests/kernel tests/fuzz $(PYTEST)

kernel-slice: bootstrap ## the same without variants of a test that another one covers (needs root)
	@$(STEP) kernel "tests on this kernel" $(PRIVATE) pytest tests/kernel tests/fuzz -m "not long" $(PYTEST)

dataplane: kernel # its name until the tests moved to tests/kernel

# The releases of Ubuntu 22.04, EL 9 and Debian 12, and the newest one. `make kernel` uses the distribution's.
PYROUTE2 := 0.5.14 0.6.13 0.7.2 newest
OF_NETLINK := $(wildcard tests/kernel/adapters/test_netlink*.py)
OF_INTERFACES := tests/kernel/traffic/test_bridge.py $(foreach name,attach drift dry_run interfaces_that_come preflight restore,\
	tests/kernel/operations/test_$(name).py)
pyroute2: bootstrap ## tests of netlink and of what uses it, by each supported release of pyroute2 (needs root)
	@for release in $(PYROUTE2); do \
		$(STEP) pyroute2-$$release "pyroute2 $$release" $(TOOLS)/pyroute2 $$release \
			$(PRIVATE) pytest $(OF_NETLINK) $(OF_INTERFACES) $(PYTEST) || exit; done

pyroute2-slice: bootstrap ## tests of netlink by the oldest and the newest of these releases
	@for release in $(firstword $(PYROUTE2)) $(lastword $(PYROUTE2)); do \
		$(STEP) pyroute2-$$release "netlink tests with pyroute2 $$release" $(TOOLS)/pyroute2 $$release \
			$(PRIVATE) pytest $(OF_NETLINK) || exit; done

contract: bootstrap ## calls of an OpenZiti router to tproxy-splicer, and the rules in force after them (needs root)
	@$(STEP) contract "contract with an OpenZiti router" $(PRIVATE) pytest tests/contract $(PYTEST)

fuzz: bootstrap ## the program against the reference model, with N packets (needs root); make fuzz N=1000000
	@$(ENV) tests/fuzz/run --packets $(N)

fuzz-slice: bootstrap ## the same with few packets
	@$(STEP) fuzz "200,000 packets against the reference model" tests/fuzz/run --packets 200000

# Tests of the program itself, not of its loader.
OF_THE_PROGRAM := tests/kernel/operations/test_verdict.py \
	$(foreach name,packets always_allowed rules maps classify,tests/kernel/program/test_$(name).py) \
	$(foreach name,link path sessions splice changes wire,tests/kernel/traffic/test_$(name).py)
CLANG_BLOB := $(CURDIR)/.work/clang/blob.json
clang: bootstrap ## the same program from clang -target bpf: kernel tests, a slice of the fuzzer (needs root)
	@$(STEP) clang-build "compile the program with clang" tests/matrix/clang/build_blob $(CLANG_BLOB)
	@$(STEP) clang "data plane tests of clang's program" env TPROXY_BLOB=$(CLANG_BLOB) \
		$(PRIVATE) pytest $(OF_THE_PROGRAM) tests/fuzz/test_cases.py
	@$(STEP) clang-fuzz "50,000 packets to clang's program" env TPROXY_BLOB=$(CLANG_BLOB) tests/fuzz/run --packets 50000

# The compilers of routers with other Debian releases. Of the tests of the program, those that load all its parts.
OF_ALL_PARTS := $(foreach name,socket_lookup sessions,tests/kernel/traffic/test_$(name).py)
bcc: bootstrap ## the same program from BCC of other Debian releases; make bcc SUITES=sid (needs root)
	@for suite in $(SUITES); do blob=.work/bcc/$$suite.json; \
		$(STEP) bcc-build-$$suite "compile the program with BCC of $$suite" tests/matrix/bcc/build_blob $$suite $$blob && \
		if [ ! -e $$blob ]; then echo "    SKIPPED: no mirror has Debian $$suite"; else \
		$(STEP) bcc-$$suite "data plane tests of that program" env TPROXY_BLOB=$(CURDIR)/$$blob \
			$(PRIVATE) pytest $(OF_THE_PROGRAM) $(OF_ALL_PARTS) $(PYTEST); fi || exit; done

bcc-slice: ## the same with those tests that load all its parts
	@$(MAKE) bcc OF_THE_PROGRAM=

mutants: bootstrap ## check that the fuzzer detects faults of one line (needs root)
	@$(ENV) tests/fuzz/mutants/run

bench-slice: bootstrap ## a short bench: it runs, and all answers agree (needs root)
	@$(STEP) bench "bench, shortest form" tests/bench/run --quick

bench-control: bootstrap ## processor time of runs that change nothing, in multiples of ansible's ping (needs root)
	@$(ENV) tests/bench/control

storm: bootstrap ## start of an OpenZiti router: 20,000 diverter calls, beside iptables (needs root)
	@$(ENV) tests/bench/storm --peers

storm-slice: bootstrap ## the same with 300 calls
	@$(STEP) storm "a router's start-up, 300 calls" tests/bench/storm --services 30

beside: bootstrap ## diverter calls beside a run of 131,071 rules, some minutes (needs root)
	@$(ENV) tests/bench/beside

kernels: bootstrap ## the tests that need a kernel, in each kernel of kernels.lock, under QEMU; make kernels ARCH=arm64
	@$(ENV) tests/matrix/kernels/run --arch $(ARCH) --jobs 1

# Without a kernel the target reports this and passes; see tests/matrix/kernels/matrix.py.
kernels-slice: bootstrap ## some of these tests in one kernel
	@$(ENV) tests/matrix/kernels/run --only 6.1 --tests \
		$(foreach name,splice reasons,traffic/test_$(name).py)

commit-confirm: bootstrap ## changes that lock the controller out, over real SSH, and their roll-back (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(ENV) tests/system/commit_confirm/run

commit-confirm-slice: bootstrap ## the first of these changes
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) commit-confirm "a policy that drops SSH is rolled back" tests/system/commit_confirm/run a_policy_drops_ssh

proxies: bootstrap ## HAProxy, Squid and a DNS server on a lab router, with real clients (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) proxies "real proxies and clients" tests/system/proxies/run

DAEMONS := chrony dnsmasq-base iputils-ping mtr-tiny ntpsec traceroute unbound wireguard-go wireguard-tools \
	frr charon-systemd strongswan-swanctl libcharon-extra-plugins systemd-timesyncd
DEBIAN_DAEMONS := $(STEP) debian-daemons "unpack daemons of this release to .work/daemons (once)" \
	$(TOOLS)/debian_programs daemons $(DAEMONS)
daemons: bootstrap ## daemons of Debian on a router that drops by default: routing, names, time, tunnels, NAT (needs root)
	@$(DEBIAN_DAEMONS)
	@$(STEP) daemons "daemons behind default drop" $(PRIVATE) pytest tests/system/daemons $(PYTEST)

daemons-slice: bootstrap ## some of these tests
	@$(DEBIAN_DAEMONS)
	@$(STEP) daemons "some daemons behind default drop" $(PRIVATE) pytest tests/system/daemons -m slice $(PYTEST)

monitoring: bootstrap ## alert rules, dashboard, and a real Prometheus that scrapes a router (needs root)
	@$(STEP) prometheus "unpack Prometheus and node_exporter to .work/prometheus (once)" \
		$(TOOLS)/debian_programs prometheus prometheus prometheus-node-exporter
	@$(STEP) monitoring "monitoring by Prometheus" $(PRIVATE) pytest tests/system/monitoring $(PYTEST)

# make report SCREENSHOTS=docs/images writes the pictures of docs/report.md, too.
report: export SCREENSHOTS ?=
report: bootstrap ## the page of the playbook `report` in a real browser, at two widths, light and dark
	@$(STEP) chromium "unpack a browser to .work/chromium (once)" \
		$(TOOLS)/debian_programs chromium chromium-headless-shell
	@$(STEP) report "the report in a browser" pytest tests/system/report $(PYTEST)

docs: bootstrap ## the documentation site, .work/site/html, without a warning of antsibull-docs and Sphinx
	@$(STEP) site "documentation site: .work/site/html/index.html" $(TOOLS)/docs_site

# One after the other: each is a lab of its own.
platforms: build ## demo, boot, helper, proxies and molecule on routers of other Debian releases; SUITES="trixie sid"
	@for LAB_SUITE in $(SUITES); do export LAB_SUITE; \
		$(STEP) lab-base-$$LAB_SUITE "base folder of routers with Debian $$LAB_SUITE" tests/lab/lab base && \
		$(STEP) demo-$$LAB_SUITE "demonstration on $$LAB_SUITE" tests/system/demo/run && \
		$(STEP) boot-$$LAB_SUITE "boot and repair on $$LAB_SUITE" tests/system/boot/run && \
		$(STEP) helper-$$LAB_SUITE "the helper on $$LAB_SUITE" tests/system/helper/run && \
		$(STEP) proxies-$$LAB_SUITE "proxies on $$LAB_SUITE" tests/system/proxies/run && \
		$(STEP) molecule-$$LAB_SUITE "molecule on $$LAB_SUITE" $(TOOLS)/molecule || exit; done

boot: bootstrap ## a lab router boots, loses objects and gets a damaged state, under traffic (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) boot "boot, repair and failure policy" tests/system/boot/run
	@$(STEP) boot-managers "the window at boot with each network manager" tests/system/boot/managers

helper: bootstrap ## the helper under systemd on a lab router, for an OpenZiti router without root privileges (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) helper "the helper under systemd" tests/system/helper/run

# `make openziti ZITI=/path/to/ziti`, or a `ziti` on the PATH. Without one the script ends with 3, and make with 2.
openziti: export ZITI := $(or $(ZITI),$(shell command -v ziti))
openziti: bootstrap ## a real OpenZiti controller and real routers on lab routers; ZITI=path of the executable (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(ENV) tests/system/openziti/run -- $(PYTEST)

# The same variable and the same ends. The kernel of this machine may lack AppArmor, so the router runs under QEMU.
openziti-apparmor: export ZITI := $(or $(ZITI),$(shell command -v ziti))
openziti-apparmor: bootstrap ## a real OpenZiti router that AppArmor confines, in Debian's kernel under QEMU; ZITI=path (needs root)
	@$(ENV) tests/system/apparmor/run

# Only where the environment offers an executable. Otherwise the target reports this and passes.
openziti-slice: bootstrap ## some of these scenarios, if ZITI names an executable
	@[ -z "$$ZITI" ] && echo "==> a real OpenZiti network: not tried, ZITI names no executable" || { \
		$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base && \
		$(STEP) openziti "a real OpenZiti network" tests/system/openziti/run -- -m slice; }

upgrade: bootstrap ## 100 replacements of the program under traffic, and a migration between two layouts (needs root)
	@$(STEP) upgrade "100 replacements under traffic" env TPROXY_REPLACEMENTS=100 $(PRIVATE) pytest -rP \
		tests/kernel/operations/test_upgrade.py tests/kernel/traffic/test_changes.py -k 'upgrade or replaced'

rollout: bootstrap ## the playbook rollout on eight lab routers, some of them sabotaged (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) rollout "a roll-out to eight routers" tests/system/rollout/run

rollout-slice: bootstrap ## the same on two good routers
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) rollout "a roll-out to two routers" tests/system/rollout/run --slice

pull: bootstrap ## a lab router that pulls its state from a git repository, by the guide docs/guides/pull.md (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) pull "a router in pull mode" tests/system/pull/run

# make fleet FLEET='--routers 8 --rtt 50'
FLEET ?=
fleet: bootstrap ## time, processor time and bytes of runs on 24 lab routers, about 20 minutes; options in FLEET (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(ENV) tests/bench/fleet $(FLEET)

build: bootstrap ## build the collection, install it to .work/installed, read its documentation
	@$(STEP) build "build and install the collection" $(TOOLS)/build

importer: build ## import the built collection as Galaxy does; fails for a warning
	@$(STEP) importer "galaxy-importer" $(TOOLS)/galaxy_importer

tproxy-splicer: bootstrap ## build the command line for routers: .work/dist/tproxy-splicer, one file
	@$(STEP) tproxy-splicer "build tproxy-splicer" \
		/usr/bin/python3 -B $(TOOLS)/build_tproxy_splicer.py .work/dist/tproxy-splicer

sanity: bootstrap ## ansible-test sanity
	@$(STEP) sanity "ansible-test sanity" $(TOOLS)/sanity $(SANITY)

integration: bootstrap ## ansible-test integration: the modules on the kernel of this machine (needs root)
	@$(STEP) integration "ansible-test integration" $(PRIVATE) $(TOOLS)/integration $(TARGETS)

# Each of its faults costs a run of a module; tests/unit has the faults of input.
TARGETS_OF_SLICE = $(filter-out bad_input setup_%,$(notdir $(wildcard tests/integration/targets/*)))
integration-slice: bootstrap ## the same without the target bad_input
	@$(STEP) integration "ansible-test integration" $(PRIVATE) $(TOOLS)/integration $(TARGETS_OF_SLICE)

# The releases beside that of .work/venv, the oldest one that meta/runtime.yml allows first.
CORES ?= 2.18 2.20 2.21
cores: bootstrap ## sanity, and the examples of the documentation, by other releases of ansible-core (needs root)
	@for core in $(CORES); do \
		export CORE=$$core; \
		$(STEP) sanity-$$core "ansible-test sanity of ansible-core $$core" $(TOOLS)/sanity && \
		$(STEP) integration-$$core "examples with ansible-core $$core" $(PRIVATE) $(TOOLS)/integration examples tproxy_router || exit; \
	done

molecule: build ## the installed role on lab routers over SSH (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) molecule "molecule" $(TOOLS)/molecule

clean: ## stop the labs and remove all files of the tools
	@$(TOOLS)/clean
