# SPDX-License-Identifier: Apache-2.0
#
# This folder stands in for OpenWrt's build system: scripts/package.sh has the Makefiles in openwrt/ write down here what
# they say about their packages, and install what belongs in them. So both ways of building give the same packages.
# Variables that package.sh sets:
#
#	STAGE		where it goes: STAGE/PACKAGE/data/ is the file tree, STAGE/PACKAGE/meta/ has a file for each fact
#	ARCH_PACKAGES	the architecture
#	PKG_BUILD_DIR	ipkg-install/bin/smtprelay in it is the program
#	TREE		the project

SHELL:=/bin/sh
TAR:=tar
FIND:=find
CP:=cp -fpR
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600

.DEFAULT_GOAL:=all
