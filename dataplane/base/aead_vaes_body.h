/* SPDX-License-Identifier: BSD-3-Clause
 * A datagram in parts of constant size: the same for every width of vector. Included once by each VAES family, behind
 *
 *   enum { PART, FEWEST }    most groups of a part, and groups of the shortest datagram
 *   struct message           with key, groups, header, tag_mask and hash
 *   message_begin(m, header, text, src, n)
 *   part(m, groups, first, last, seal)    the next groups: crypt, and add the ciphertext to the hash
 */

/* A short datagram is one part; a longer one begins with what is over and ends with a full one. */
MR_ALWAYS_INLINE void crypt_text(struct message *m, const int seal)
{
	switch (m->groups) {
	case 1:
		if (FEWEST == 1)
			part(m, 1, 1, 1, seal);
		return;
	case 2:
		part(m, 2, 1, 1, seal);
		return;
	case 3:
		part(m, 3, 1, 1, seal);
		return;
	case 4:
		part(m, 4, 1, 1, seal);
		return;
	default:
		break;
	}
	switch (m->groups % PART) {
	case 1:
		part(m, 1, 1, 0, seal);
		break;
	case 2:
		part(m, 2, 1, 0, seal);
		break;
	case 3:
		part(m, 3, 1, 0, seal);
		break;
	default:
		part(m, 4, 1, 0, seal);
		break;
	}
	for (size_t left = (m->groups - 1) / PART; left > 1; left--)
		part(m, PART, 0, 0, seal);
	part(m, PART, 0, 1, seal);
}

STATIC_ASSERT(PART == 4, "the cases above");

/* The tag. */
MR_ALWAYS_INLINE __m128i crypt(struct message *m, const int seal)
{
	crypt_text(m, seal);
	return _mm_xor_si128(m->tag_mask, _mm_shuffle_epi8(m->hash, vaes_byte_order()));
}

static void seal(const struct aead *a, const struct aead_key *key, struct wire_header header,
	uint8_t *datagram, const uint8_t *src, size_t n)
{
	uint8_t *text = datagram + WIRE_HEADER_BYTES;
	struct message m = {.key = (const struct vaes_key *)key};
	__m128i tag;

	(void)a;
	message_begin(&m, header, text, src, n);
	tag = crypt(&m, 1);
	_mm_storeu_si128((__m128i *)datagram, m.header);
	_mm_storeu_si128((__m128i *)(text + n), tag);
}

static int open(const struct aead *a, const struct aead_key *key, struct wire_header header,
	uint8_t *datagram, size_t n)
{
	uint8_t *text = datagram + WIRE_HEADER_BYTES;
	struct message m = {.key = (const struct vaes_key *)key};
	__m128i tag = _mm_loadu_si128((const __m128i *)(text + n));

	(void)a;
	message_begin(&m, header, text, text, n);
	tag = _mm_xor_si128(tag, crypt(&m, 0));
	return _mm_testz_si128(tag, tag);
}
