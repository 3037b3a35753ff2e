# SPDX-License-Identifier: Apache-2.0
#
# make demo           build the gateway and show what it does with a Controllino's mail; 2 minutes
# make build          the program for this machine: target/release/smtprelay
# make cross ARCH=…   the static program for a router: target/cross/ARCH/smtprelay
# make package ARCH=… the packages for a router: target/packages/; APK=…, a program apk 3, for OpenWrt 25.12 and later
# make manual         the manual page smtprelay(8) and the completion for bash: target/manual/
# make dist           the archive of the sources for a release, with its hash and notes: target/dist/
# make test           everything that is checked; installs what it needs; 40 minutes on two cores from cold
# make lint           formatting, clippy, rustdoc, arrows between rooms, banned phrases, shellcheck
# make unit           unit, property and end-to-end tests
# make test-powercut  what is left after the power of a virtual machine was cut in the middle of a load; 5 minutes
# make test-router    the package on a virtual router (MIPS kernel, 64 and 32 MB, flash), and its power cuts; 5 minutes
# make test-openwrt   on a router that OPENWRT_SH and LUCI_URL name (docs/developer/testing.md); skipped without
# make half-year      half a year in simulated time: mail, outages, reboots, reloads, full disks, and a picture of what the
#                     program holds; WRITE=1 puts it into docs/images; needs root; 10 minutes
# make half-year-router  the same with the package on the virtual router, and what is programmed on its flash; an hour
# make bench          smtprelay and the relays that it replaces, measured in one run; LOADS=memory,accept picks some;
#                     15 minutes
# make bench-router   processor time on a core of 500 MIPS, and wear of the flash, on the virtual router; WRITE=1
# make clean          remove all that was built

# Where cargo builds; a relative CARGO_TARGET_DIR is meant from here, also where a recipe goes into a folder first.
ifdef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
endif
TARGET = $(shell scripts/target_dir.sh)
ARCHS := mips_24kc mipsel_24kc arm_cortex-a7_neon-vfpv4 aarch64_cortex-a53 x86_64
# What the end-to-end tests run on emulated as well: the other byte order. The little-endian program runs on a kernel of its
# own in test-router; `make emulated EMULATED=mipsel_24kc` runs all tests with it.
EMULATED := mips_24kc
SHELL_FILES := $(wildcard scripts/*.sh findings/*.sh tests/*.sh tests/*/*.sh openwrt/*.sh files/usr/libexec/*/* .ci/run)

# Without a target: the list above.
help:
	@sed -n '/^# make/,/^$$/s/^# //p' Makefile

.PHONY: help dist demo test build cross package manual screenshots lint bench bench-router half-year half-year-router unit libuci fuzz luci packages emulated test-powercut \
	test-router test-openwrt clean

build:
	scripts/need.sh build
	cargo build --release --locked

demo:
	scripts/need.sh demo
	cargo build --locked --bin smtprelay
	scripts/demo.sh

cross:
	scripts/cross.sh $(ARCH)

package: cross
	scripts/package.sh $(ARCH)

dist:
	scripts/dist.sh

lint:
	scripts/need.sh test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet
	cd tests/libuci && cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings
	cd tests/fuzz && cargo fmt --check && cargo clippy --locked -- -D warnings
	tests/rust_version.py
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check licenses bans sources; \
		else echo 'cargo-deny is not installed: licences and sources of the dependencies were not checked'; fi
	tests/arrows.py
	tests/words.py
	tests/links.py
	tests/spdx.sh
	shellcheck $(SHELL_FILES)
	tests/openwrt_files.sh
	tests/openwrt/keep_test.py

# Unit, property and end-to-end tests with the program of this machine.
unit:
	scripts/need.sh test
	scripts/servers.sh
	scripts/login_server.sh
	scripts/tests.py --locked
	cargo test --locked --doc --quiet
	scripts/uci.sh
	PROGRAM=$(TARGET)/debug/smtprelay UCI=$(TARGET)/uci/uci tests/import/run.sh
	scripts/manual.py $(TARGET)/debug/smtprelay $(TARGET)/manual

# From the program's help and the tables of settings.
manual: build
	scripts/manual.py $(TARGET)/release/smtprelay $(TARGET)/manual

# The UCI reader against the real libuci.
libuci:
	scripts/need.sh test
	cd tests/libuci && cargo test --locked

# Broken messages for the reader of what comes over ubus.
fuzz:
	cd tests/fuzz && cargo run --release --locked --quiet -- 1000000

# The pages for LuCI, without a router: style, types, logic, translations.
luci:
	scripts/need.sh luci
	tests/luci/run.sh

# The packages of all five architectures, and what must be true of them; instructions a message against tests/budget.txt. With OPKG=… and APK=… they are installed as well.
packages:
	scripts/need.sh test
	# The first one installs what is missing; then two at a time, since the longest step of each has one thread.
	scripts/cross.sh $(firstword $(ARCHS))
	printf '%s\n' $(wordlist 2,99,$(ARCHS)) | xargs -n 1 -P 2 scripts/cross.sh
	for arch in $(ARCHS); do scripts/package.sh $$arch || exit 1; done
	tests/package.sh $(ARCHS)
	tests/computers.py $(TARGET)/cross/x86_64/smtprelay
	cargo build --locked --quiet --example bench
	tests/instructions.py $(TARGET)/cross/x86_64/smtprelay $(TARGET)/debug/examples/bench

# The end-to-end tests with the big-endian MIPS program.
emulated:
	scripts/need.sh test
	for arch in $(EMULATED); do \
		scripts/cross.sh $$arch && SMTPRELAY_BIN=$(TARGET)/cross/$$arch/smtprelay SMTPRELAY_RUNNER=qemu-$${arch%_24kc} SMTPRELAY_ROUNDS=3 \
			scripts/tests.py --locked --test '*' || exit 1; \
	done
	tests/mips_memory.sh

# The gateway in a virtual machine whose power is cut.
test-powercut:
	scripts/need.sh powercut
	scripts/cross.sh x86_64
	scripts/powercut.sh

# The package on a virtual router: MIPS kernel, little memory, flash.
test-router:
	scripts/need.sh router
	scripts/cross.sh mipsel_24kc
	scripts/package.sh mipsel_24kc
	scripts/router.sh

# The gateway under procd, and its pages in LuCI, on a router that runs.
test-openwrt:
	tests/openwrt/run.py
	if [ -n "$$LUCI_URL" ]; then scripts/need.sh luci && tests/luci/run.sh && node tests/openwrt/luci.mjs; \
		else echo 'skipped: LUCI_URL names no router with LuCI'; fi

STAGES := lint unit libuci fuzz luci packages emulated test-powercut test-router test-openwrt

test:
	@echo 'make test: $(words $(STAGES)) stages, some 40 minutes on two cores from cold.'
	scripts/need.sh test luci powercut router
	@stage=0; for name in $(STAGES); do \
		stage=$$((stage + 1)); \
		printf '\n== %s: stage %d of $(words $(STAGES)): make %s\n' "$$(date +%H:%M:%S)" $$stage $$name; \
		$(MAKE) --no-print-directory $$name || exit 1; \
	done
	@echo 'All tests passed.'

# SMTPRELAY_SEED draws other times. The program is dynamically linked: simulated time requires that.
half-year: PICTURE = $(if $(WRITE),docs/images,$(TARGET))/half-year.svg
half-year:
	scripts/need.sh test
	cargo build --release --locked
	SMTPRELAY_BIN=$(TARGET)/release/smtprelay SMTPRELAY_DAYS=180 SMTPRELAY_SAMPLES=$(TARGET)/half-year.csv \
		cargo test --locked --test half_year -- --nocapture
	scripts/half_year.py $(TARGET)/half-year.csv $(PICTURE)

# As half-year, on the virtual router of test-router; SMTPRELAY_DAYS and SMTPRELAY_DURABILITY as in the test.
half-year-router: PICTURE = $(if $(WRITE),docs/images,$(TARGET))/half-year-router.svg
half-year-router:
	scripts/need.sh router
	scripts/cross.sh mipsel_24kc
	scripts/package.sh mipsel_24kc
	SMTPRELAY_SAMPLES=$(TARGET)/half-year-router.csv scripts/router.sh half-year
	scripts/half_year.py $(TARGET)/half-year-router.csv $(PICTURE)

# LOADS, PEERS, ROUNDS, WRITE=1 and others: see tests/bench/__main__.py.
bench:
	scripts/need.sh bench
	scripts/cross.sh x86_64
	cargo build --release --locked --example bench
	scripts/servers.sh $(TARGET)/servers bench
	scripts/bench.sh

# On the virtual router of test-router: processor time by kind of work and certificate, and wear of the flash.
bench-router:
	scripts/need.sh router
	scripts/cross.sh mipsel_24kc
	scripts/package.sh mipsel_24kc
	scripts/router.sh bench

# The pictures of the README; LUCI_SOURCE names a checkout of LuCI, or LUCI_URL a router.
screenshots:
	scripts/screenshots.sh

clean:
	cargo clean
