# The table of contents of this checkout: `make help` lists what can be done.
# Every target installs what it needs on a bare Debian machine (tests/tools/bootstrap) and writes to .work only.
MAKEFLAGS += --no-print-directory
TOOLS := tests/tools
# step NAME WHAT COMMAND: one line of progress, the output in .work/log/NAME.log
STEP := $(TOOLS)/step
ENV := . $(TOOLS)/env.sh &&
SHELL := /bin/bash
PRIVATE := $(TOOLS)/in_private_ns
# make unit PYTEST='-k ports'   make integration TARGETS=tproxy_rule   make sanity SANITY='--test validate-modules'
PYTEST ?=
TARGETS ?=
SANITY ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test bench bootstrap lint layout layout-check blob unit dataplane build sanity integration molecule clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: bootstrap ## routers in namespaces, rules by Ansible, real packets (needs root)
	@$(ENV) tests/demo/run

test: ## all checks and tests, cheap ones first, up to the first failure (needs root)
	@$(TOOLS)/run_tests bootstrap lint layout-check unit dataplane build sanity integration molecule

bench: bootstrap ## measure the data plane (needs root)
	@$(ENV) tests/bench/run

bootstrap: ## install missing Debian packages and build .work/venv; done by every other target
	@$(TOOLS)/bootstrap

lint: bootstrap ## style of YAML, Python, shell, changelog and documentation
	@$(STEP) yamllint "yamllint" yamllint --strict .
	@$(STEP) ruff "ruff" ruff check --output-format concise
	@$(STEP) shellcheck "shellcheck" $(TOOLS)/shellcheck
	@$(STEP) changelog "changelog fragments" antsibull-changelog lint
	@$(STEP) docs "documentation of plugins and role" antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=self .
	@$(STEP) ansible-lint "ansible-lint" ansible-lint

layout: bootstrap ## write plugins/module_utils/_layout.py anew from bpf/types.h
	@$(STEP) layout "bpf/types.h to _layout.py" python bpf/gen_layout.py

layout-check: bootstrap ## compare _layout.py with what the compiler says of bpf/types.h
	@$(STEP) layout-check "_layout.py agrees with bpf/types.h" python bpf/gen_layout.py --check

blob: bootstrap ## compile bpf/ to the blob that the role ships for routers without BCC
	@$(STEP) blob "compile the blob" python bpf/build_blob.py

unit: bootstrap ## tests of the pure Python rooms
	@$(STEP) unit "unit tests" pytest tests/unit $(PYTEST)

dataplane: bootstrap ## tests of the BPF program in this machine's kernel (needs root)
	@$(STEP) dataplane "data plane tests" $(PRIVATE) pytest tests/dataplane $(PYTEST)

build: bootstrap ## build the collection, install it to .work/installed, look up its documentation
	@$(STEP) build "build and install the collection" $(TOOLS)/build

sanity: bootstrap ## ansible-test sanity
	@$(STEP) sanity "ansible-test sanity" $(TOOLS)/sanity $(SANITY)

integration: bootstrap ## ansible-test integration: the modules against this machine's kernel (needs root)
	@$(STEP) integration "ansible-test integration" $(PRIVATE) $(TOOLS)/integration $(TARGETS)

molecule: build ## the installed role on the lab's routers over SSH (needs root)
	@$(STEP) lab-base "base folder of the lab's routers (once, about a minute)" tests/lab/lab base
	@$(STEP) molecule "molecule" $(TOOLS)/molecule

clean: ## take the labs down and remove all that the tools have written
	@$(TOOLS)/clean
