/* SPDX-License-Identifier: BSD-3-Clause
 * A worker's table of stray senders: see admission.h.
 */
#include <string.h>

#include "admission.h"

void admission_init(struct admission *a, uint64_t seed)
{
	a->seed = seed | 1;
}

static struct admission_source *set_of(struct admission *a, const struct ip_addr *source)
{
	uint64_t w[2], h;

	memcpy(w, source->bytes, sizeof(w));
	h = (w[0] ^ a->seed) * 0x9e3779b97f4a7c15ull;
	h = (h ^ h >> 32 ^ w[1]) * (a->seed * 0xbf58476d1ce4e5b9ull | 1);
	return a->sets[(h >> 40) % ADMISSION_SETS];
}

/* Until when is it worth remembering? A boxed source longest, so that invented addresses cannot push it
 * out; then the one whose bucket is emptiest. */
static uint64_t worth(const struct admission_source *s)
{
	uint64_t bucket_ns = s->tat_ticks >> LIMITS_TICK_SHIFT;

	return s->boxed_until_ns > bucket_ns ? s->boxed_until_ns : bucket_ns;
}

/* The entry of `source`; a new one takes the place of the least worth. */
static struct admission_source *find(struct admission *a, const struct ip_addr *source)
{
	struct admission_source *set = set_of(a, source), *least = set;

	for (int i = 0; i < ADMISSION_WAYS; i++) {
		if (memcmp(&set[i].source, source, sizeof(*source)) == 0)
			return &set[i];
		if (worth(&set[i]) < worth(least))
			least = &set[i];
	}
	*least = (struct admission_source){.source = *source};
	return least;
}

static void report(struct admission *a, const struct admission_source *s)
{
	uint32_t head = a->head;

	if (head - __atomic_load_n(&a->tail, __ATOMIC_ACQUIRE) == ADMISSION_REPORTS)
		return;
	a->reports[head % ADMISSION_REPORTS] = (struct admission_report){s->source, s->boxed_until_ns};
	__atomic_store_n(&a->head, head + 1, __ATOMIC_RELEASE);
}

enum stats_counter admission_stray(struct admission *a, const struct ip_addr *source, uint64_t now_ns,
	enum stats_counter why)
{
	struct admission_source *s = find(a, source);

	if (shield_boxed(s->boxed_until_ns, now_ns))
		return STATS_DROP_BOXED;
	if (shield_charge(&s->tat_ticks, now_ns))
		return why;
	s->boxed_until_ns = shield_term_end(now_ns);
	report(a, s);
	return STATS_DROP_FLOOD;
}

bool admission_take_report(struct admission *a, struct admission_report *out)
{
	uint32_t tail = a->tail;

	if (tail == __atomic_load_n(&a->head, __ATOMIC_ACQUIRE))
		return false;
	*out = a->reports[tail % ADMISSION_REPORTS];
	__atomic_store_n(&a->tail, tail + 1, __ATOMIC_RELEASE);
	return true;
}
