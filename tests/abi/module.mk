# Every abi header compiled alone by each compiler that uses it; offsets printed by both and compared.
TEST_SCRIPTS += tests/abi/test_abi.sh
