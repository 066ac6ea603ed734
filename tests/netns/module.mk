# SPDX-License-Identifier: BSD-3-Clause
# End to end, in namespaces: the real programs, a real client, AF_XDP on a veth.
TEST_SCRIPTS += tests/netns/test_host_left.sh tests/netns/test_first_light.sh tests/netns/test_large.sh tests/netns/test_fallbacks.sh tests/netns/test_doubt.sh \
	tests/netns/test_licence.sh \
	tests/netns/test_limits.sh tests/netns/test_swap.sh tests/netns/test_crash.sh tests/netns/test_hostile.sh tests/netns/test_secrets.sh tests/netns/test_flood.sh \
	tests/netns/test_memif.sh \
	tests/netns/test_share.sh tests/netns/test_engines.sh tests/netns/test_kills.sh tests/netns/test_cache.sh
