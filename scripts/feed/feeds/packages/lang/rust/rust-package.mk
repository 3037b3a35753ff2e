# SPDX-License-Identifier: Apache-2.0
#
# In place of lang/rust/rust-package.mk of the feed "packages", see ../../../../rules.mk.

RUST_ARCH_DEPENDS:=@y
RustBinPackage=
