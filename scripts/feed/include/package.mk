# SPDX-License-Identifier: Apache-2.0
#
# In place of OpenWrt's include/package.mk, see ../rules.mk.

PKG_INSTALL_DIR=$(PKG_BUILD_DIR)/ipkg-install

# Facts that a package has, or not; what one package says is not to be said of the next.
FACTS:=TITLE DEPENDS CONFLICTS PROVIDES ALTERNATIVES USERID SECTION PKGARCH VERSION URL MAINTAINER

define Package/Default
  $(foreach fact,$(FACTS),$(eval $(fact):=))
  PKGARCH:=$(ARCH_PACKAGES)
  VERSION:=$(PKG_VERSION)-r$(PKG_RELEASE)
  MAINTAINER:=$(PKG_MAINTAINER)
endef

# fact PACKAGE NAME VALUE: nothing is written where there is nothing to say.
fact=$(if $(strip $(3)),$(file >$(STAGE)/$(1)/meta/$(2),$(3)))
# Conditions (@SYMBOL) concern the build alone, as does the plus sign.
depends=$(patsubst +%,%,$(filter-out @%,$(DEPENDS)))

define BuildPackage
$(eval $(call Package/Default))
$(eval $(call Package/$(1)))
$(shell mkdir -p $(STAGE)/$(1)/data $(STAGE)/$(1)/meta)
$(foreach name,$(filter-out DEPENDS,$(FACTS)),$(call fact,$(1),$(name),$(strip $($(name)))))
$(call fact,$(1),DEPENDS,$(depends))
$(call fact,$(1),SOURCE_NAME,$(PKG_NAME))
$(call fact,$(1),LICENSE,$(PKG_LICENSE))
$(call fact,$(1),LICENSE_FILES,$(PKG_LICENSE_FILES))
$(foreach name,description conffiles postinst prerm,$(call fact,$(1),$(name),$(Package/$(1)/$(name))))
.PHONY: all $(1)
all: $(1)
$(1):
	@:
	$(call Package/$(1)/install,$(STAGE)/$(1)/data)
endef
