/* SPDX-License-Identifier: BSD-3-Clause
 * The response cache alone: what it finds, what it must not find, who gives way, what it takes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache.h"

enum { OUT = 40, KB = 64 };

static struct cache c;

static int set_up(void **state)
{
	(void)state;
	return cache_init(&c, &(struct mailbox_cache){.memory_kb = KB, .ttl_ms = 1000}, OUT);
}

static int tear_down(void **state)
{
	(void)state;
	cache_uninit(&c);
	return 0;
}

static struct text_tag tag_of(uint64_t i)
{
	return (struct text_tag){{i * 0x9e3779b97f4a7c15ull, ~i}};
}

static void put(cache_owner owner, uint64_t i, uint64_t now_ns)
{
	uint8_t out[OUT];

	memset(out, (int)(i * 7 + owner), sizeof(out));
	cache_put(&c, owner, tag_of(i), out, now_ns);
}

/* Found, and the right answer. */
static bool found(cache_owner owner, uint64_t i, uint64_t now_ns)
{
	const uint8_t *out = cache_find(&c, owner, tag_of(i), now_ns);
	uint8_t want[OUT];

	memset(want, (int)(i * 7 + owner), sizeof(want));
	if (out)
		assert_memory_equal(out, want, sizeof(want));
	return out;
}

static void what_was_put_is_found_by_its_owner_alone(void **state)
{
	(void)state;
	put(1, 5, 0);
	assert_true(found(1, 5, 1));
	assert_false(found(2, 5, 1));
	assert_false(found(1, 6, 1));
	assert_int_not_equal(cache_owner_of(&c, 0, 2), cache_owner_of(&c, 1, 2));
	assert_int_not_equal(cache_owner_of(&c, 1, 2), cache_owner_of(&c, 1, 4)); /* the slot's next holder */
	assert_int_not_equal(cache_owner_of(&c, 0, 0), 0);
	c.shared = true;
	assert_int_equal(cache_owner_of(&c, 0, 2), cache_owner_of(&c, 7, 4));
	assert_int_equal(c.count.hits, 1);
	assert_int_equal(c.count.misses, 2);
}

/* All in one bucket, and the halves of the tag equal in pairs. */
static void rows_of_one_bucket_are_told_apart_by_every_bit_of_the_tag(void **state)
{
	uint8_t out[OUT] = {0};

	(void)state;
	for (uint32_t bit = 0; bit < 64; bit++) {
		out[0] = (uint8_t)bit;
		cache_put(&c, 1, (struct text_tag){{0, 1ull << bit}}, out, 0);
	}
	for (uint32_t bit = 20; bit < 64; bit++) { /* over the mask: the same bucket */
		out[0] = (uint8_t)(100 + bit);
		cache_put(&c, 1, (struct text_tag){{1ull << bit, 0}}, out, 0);
	}
	for (uint32_t bit = 0; bit < 64; bit++)
		assert_int_equal(*cache_find(&c, 1, (struct text_tag){{0, 1ull << bit}}, 0), bit);
	for (uint32_t bit = 20; bit < 64; bit++)
		assert_int_equal(*cache_find(&c, 1, (struct text_tag){{1ull << bit, 0}}, 0), 100 + bit);
	assert_null(cache_find(&c, 1, (struct text_tag){{0, 0}}, 0));
}

static void an_answer_is_not_found_when_its_time_is_over_and_is_replaced_in_place(void **state)
{
	(void)state;
	put(1, 5, 0);
	assert_true(found(1, 5, NS_PER_S - 1));
	assert_false(found(1, 5, NS_PER_S));
	assert_false(cache_holds(&c, 1, tag_of(5), NS_PER_S));
	assert_int_equal(c.count.expired, 1);
	put(1, 5, NS_PER_S);
	assert_true(found(1, 5, 2 * NS_PER_S - 1)); /* being found does not prolong it */
	assert_int_equal(c.count.entries, 1);
	c.ttl_ns = 0;
	assert_true(found(1, 5, UINT64_MAX / 2));
}

static void the_hand_gives_a_second_chance_to_what_was_found(void **state)
{
	uint32_t n = c.n, kept = 0;

	(void)state;
	for (uint64_t i = 0; i < n; i++)
		put(1, i, 0);
	assert_int_equal(c.count.entries, n);
	assert_int_equal(c.count.evicted, 0);
	for (uint64_t i = 0; i < n; i += 3)
		assert_true(found(1, i, 0));
	for (uint64_t i = 0; i < n - (n + 2) / 3; i++) /* as many as have no mark */
		put(1, n + i, 0);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(cache_holds(&c, 1, tag_of(i), 0), i % 3 == 0);
	memset(c.marks, 0, n / 8);
	put(1, 2 * n, 0); /* nobody has a mark: the next in turn goes */
	for (uint64_t i = 0; i < n; i += 3)
		kept += cache_holds(&c, 1, tag_of(i), 0);
	assert_true(kept + 1 >= (n + 2) / 3);
	for (uint64_t i = 0; i < n; i++)
		c.marks[i / 64] = ~0ull;
	put(1, 3 * n, 0); /* all have one: a full turn, and it still ends */
	assert_true(found(1, 3 * n, 0));
	assert_int_equal(c.count.entries, n);
}

static void what_is_asked_often_stays_while_a_scan_passes_through(void **state)
{
	uint32_t hot = c.n / 4;
	uint64_t missed = 0;

	(void)state;
	for (uint64_t i = 0; i < hot; i++)
		put(1, i, 0);
	for (uint64_t i = 0; i < 50ull * c.n; i++) {
		put(1, 1000000 + i, 0);
		if (!found(1, i % hot, 0)) {
			missed++;
			put(1, i % hot, 0);
		}
	}
	assert_true(missed < hot);
}

/* Against an array: whatever is found is what was put last, and chains and counts stay whole. */
static void whatever_is_put_comes_back_or_is_gone(void **state)
{
	enum { ROWS = 3000 };
	static uint64_t since[4][ROWS];
	uint32_t chained = 0;

	(void)state;
	srand(1);
	for (uint64_t t = 1; t < 300000; t++) {
		cache_owner o = (uint32_t)rand() % 4;
		uint64_t i = (uint64_t)rand() % ROWS, now_ns = t * NS_PER_MS;

		if (rand() % 3) {
			if (found(o + 1, i, now_ns))
				assert_true(now_ns - since[o][i] < NS_PER_S);
		} else {
			put(o + 1, i, now_ns);
			since[o][i] = now_ns;
			assert_true(cache_holds(&c, o + 1, tag_of(i), now_ns));
		}
	}
	for (uint32_t b = 0; b <= c.mask; b++)
		for (uint32_t i = c.buckets[b]; i; chained++)
			memcpy(&i, c.entries + (size_t)(i - 1) * c.stride + 32, sizeof(i)); /* next */
	assert_int_equal(chained, c.n);
	assert_int_equal(c.count.entries, c.n);
	assert_true(c.count.expired > 0 && c.count.evicted > 0);
}

static void it_takes_what_it_was_given_and_refuses_what_is_too_little(void **state)
{
	static struct cache x; /* not on the stack: ASan's copy of it (GCC 12) is aligned to 32 bytes, this needs 64 */

	(void)state;
	for (uint32_t out = 1; out < 20000; out += 97) {
		uint32_t kb = cache_least_kb(out);

		assert_int_equal(cache_init(&x, &(struct mailbox_cache){.memory_kb = kb - 1}, out), -EINVAL);
		assert_int_equal(cache_init(&x, &(struct mailbox_cache){.memory_kb = kb}, out), 0);
		assert_true(x.n >= CACHE_MIN_ENTRIES && x.n % 64 == 0);
		assert_true((uint8_t *)(x.buckets + x.mask + 1) <= (uint8_t *)x.memory + kb * 1024);
		cache_uninit(&x);
	}
	assert_int_equal(cache_init(&x, &(struct mailbox_cache){0}, 4), -EINVAL);
}

static void a_configuration_comes_through_the_mailbox_as_it_was(void **state)
{
	static const struct mailbox_cache all[] = {{0}, {1, 0, true}, {MAILBOX_CACHE_MAX_KB,
		MAILBOX_CACHE_MAX_TTL_MS, false}, {UINT32_MAX, 0x7fffffff, true}};

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct mailbox_cache got = mailbox_cache_unpack(mailbox_cache_pack(&all[i]));

		assert_int_equal(got.memory_kb, all[i].memory_kb);
		assert_int_equal(got.ttl_ms, all[i].ttl_ms);
		assert_int_equal(got.shared, all[i].shared);
	}
}

/* GHASH by its definition (NIST SP 800-38D), bit by bit, for a key recovered from the tag of a 1. */
static struct text_tag slow_ghash(struct text_tag h, const uint8_t *text, uint32_t n)
{
	uint8_t y[16] = {0}, key[16];

	memcpy(key, &h, 16);
	for (uint32_t at = 0; at < n; at += 16) {
		uint8_t z[16] = {0}, v[16];

		for (uint32_t i = 0; i < 16 && at + i < n; i++)
			y[i] ^= text[at + i];
		memcpy(v, key, 16);
		for (int bit = 0; bit < 128; bit++) {
			uint8_t low = v[15] & 1;

			if (y[bit / 8] >> (7 - bit % 8) & 1)
				for (int i = 0; i < 16; i++)
					z[i] ^= v[i];
			for (int i = 15; i > 0; i--)
				v[i] = (uint8_t)(v[i] >> 1 | v[i - 1] << 7);
			v[0] >>= 1;
			if (low)
				v[0] ^= 0xe1;
		}
		memcpy(y, z, 16);
	}
	memcpy(&h, y, 16);
	return h;
}

static void a_tag_is_all_of_ghash_and_every_key_has_its_own(void **state)
{
	uint8_t one[16] = {0x80}, row[200];
	struct text_hash a, b;
	struct text_tag key, got, want;

	(void)state;
	assert_int_equal(text_hash_init(&a), 0);
	assert_int_equal(text_hash_init(&b), 0);
	key = text_tag(&a, one, 16); /* 1 x H */
	for (uint32_t i = 0; i < sizeof(row); i++)
		row[i] = (uint8_t)(i * 31 + 7);
	for (uint32_t n = 1; n <= sizeof(row); n++) {
		got = text_tag(&a, row, n);
		want = slow_ghash(key, row, n);
		assert_memory_equal(&got, &want, sizeof(got));
		got = text_tag(&b, row, n);
		assert_memory_not_equal(&got, &want, sizeof(got));
	}
	text_hash_uninit(&a);
	text_hash_uninit(&b);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(what_was_put_is_found_by_its_owner_alone),
		CASE(rows_of_one_bucket_are_told_apart_by_every_bit_of_the_tag),
		CASE(an_answer_is_not_found_when_its_time_is_over_and_is_replaced_in_place),
		CASE(the_hand_gives_a_second_chance_to_what_was_found),
		CASE(what_is_asked_often_stays_while_a_scan_passes_through),
		CASE(whatever_is_put_comes_back_or_is_gone),
		CASE(it_takes_what_it_was_given_and_refuses_what_is_too_little),
		CASE(a_configuration_comes_through_the_mailbox_as_it_was),
		CASE(a_tag_is_all_of_ghash_and_every_key_has_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
