# SPDX-License-Identifier: BSD-3-Clause
# millrace-host is a script; it and its NIC profiles are installed beside the programs.
HOST_PROFILES := $(wildcard firmware-config/profiles/*.conf)

EXTRA += $(BUILD)/bin/millrace-host
$(BUILD)/bin/millrace-host: firmware-config/millrace-host $(HOST_PROFILES)
	$(call say,COPY,$@)mkdir -p $(@D)/profiles && cp $(HOST_PROFILES) $(@D)/profiles/ && cp $< $@

TEST_SCRIPTS += tests/ctl/test_host.sh tests/ctl/test_units.sh
