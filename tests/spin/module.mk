# Models of the lock-free parts, searched exhaustively; broken variants that the search must find.
TEST_SCRIPTS += tests/spin/test_spin.sh
