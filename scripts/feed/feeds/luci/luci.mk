# SPDX-License-Identifier: Apache-2.0
#
# In place of luci.mk of the feed "luci", see ../../rules.mk. Two differences: the files are not minified, and the
# translations are in the package, where the feed makes a package luci-i18n-... for each language.

PKG_NAME:=$(notdir $(CURDIR))
PKG_RELEASE?=1

include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  SECTION:=luci
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
  PKGARCH:=$(LUCI_PKGARCH)
  URL:=$(LUCI_URL)
  MAINTAINER:=$(LUCI_MAINTAINER)
endef

define Package/$(PKG_NAME)/description
  $(LUCI_DESCRIPTION)
endef

# The menu is cached, and rpcd reads the rights of users when it starts or is told to.
define Package/$(PKG_NAME)/postinst
#!/bin/sh
[ -n "$${IPKG_INSTROOT}" ] && exit 0
rm -rf /tmp/luci-indexcache* /tmp/luci-modulecache/
killall -HUP rpcd 2>/dev/null
exit 0
endef

# Modes as in the package, whatever the umask was when the tree was fetched.
define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www $(1)/usr/lib/lua/luci/i18n
	$(CP) htdocs/. $(1)/www/
	$(CP) root/. $(1)/
	$(foreach po,$(filter-out po/templates/%,$(wildcard po/*/*.po)), \
		$(TREE)/scripts/lmo.py $(po) \
			$(1)/usr/lib/lua/luci/i18n/$(basename $(notdir $(po))).$(notdir $(patsubst %/,%,$(dir $(po)))).lmo;)
	$(FIND) $(1) -type d -exec chmod 0755 {} +
	$(FIND) $(1) -type f -exec chmod 0644 {} +
endef

$(eval $(call BuildPackage,$(PKG_NAME)))
