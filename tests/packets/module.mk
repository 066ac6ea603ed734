# The fixture table, its two users (the other is tests/ebpf) and the scapy cross-check.
FIXTURE_SRCS = tests/packets/fixtures.c tests/packets/frame.c

TESTS += test_parse
test_parse_SRCS = tests/packets/test_parse.c tests/packets/parse_hex.c $(FIXTURE_SRCS) dataplane/parse.c
test_parse_LIBS = -lcmocka
TEST_SCRIPTS += tests/packets/test_scapy.py
