# The Makefile of a package for OpenWrt's packages feed: net/sts/Makefile, with sts-recv.procd as net/sts/files/sts-recv.init.
# To make the source: git archive --prefix=sts-0.1.0/ -o dl/sts-0.1.0.tar.gz HEAD
include $(TOPDIR)/rules.mk

PKG_NAME:=sts
PKG_VERSION:=0.1.0
PKG_RELEASE:=1

PKG_SOURCE:=$(PKG_NAME)-$(PKG_VERSION).tar.gz
PKG_HASH:=skip

PKG_LICENSE:=MIT
PKG_LICENSE_FILES:=LICENSE THIRD-PARTY-LICENSES

# The user of the service writes keys to this directory.
PKG_FILE_MODES:=/etc/sts/:sts:sts:700

PKG_BUILD_DEPENDS:=rust/host
PKG_BUILD_PARALLEL:=1

# One executable for the flash of a router. For TLS, add tls.
RUST_PKG_FEATURES:=one-file

include $(INCLUDE_DIR)/package.mk
include ../../lang/rust/rust-package.mk

define Package/sts
  SECTION:=net
  CATEGORY:=Network
  TITLE:=Encrypted telemetry pipes over MQTT
  DEPENDS:=$(RUST_ARCH_DEPENDS)
  USERID:=sts:sts
endef

define Package/sts/description
  Filters that connect a pipe on one device to a pipe on another, end-to-end
  encrypted, through an MQTT broker that neither device trusts.
endef

define Package/sts/conffiles
/etc/sts/
endef

Build/Compile=$(call Build/Compile/Cargo,,--no-default-features --bin sts)

define Package/sts/install
	$(INSTALL_DIR) $(1)/usr/bin $(1)/etc/init.d
	$(INSTALL_BIN) $(PKG_INSTALL_DIR)/bin/sts $(1)/usr/bin/sts
	$(LN) sts $(1)/usr/bin/sts-pair
	$(LN) sts $(1)/usr/bin/sts-send
	$(LN) sts $(1)/usr/bin/sts-recv
	$(INSTALL_BIN) ./files/sts-recv.init $(1)/etc/init.d/sts-recv
	$(INSTALL_DIR) -m 700 $(1)/etc/sts
endef

$(eval $(call RustBinPackage,sts))
$(eval $(call BuildPackage,sts))
