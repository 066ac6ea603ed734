/* SPDX-License-Identifier: BSD-3-Clause
 * Key ratchet over several epochs: packets are lost, delayed, reordered and repeated, the dataplane may die.
 *
 * Stands for due() and step() of dataplane/client/channel.c, epoch_check() and authenticate() of
 * dataplane/auth.c, session_promote(), slot_step(), ratchet_prepare(), ratchet_take() and ratchet_turn() of
 * dataplane/ratchet.c, cell_fill() of dataplane/sessions.c. A tick is about a second; the client's two
 * bits of epoch are flags = epoch & 3, and a packet opens only under the key it was sealed with.
 *
 * Proven: a packet that is not older than LIFE is never refused for its epoch, nor one of the client's
 * present epoch even after a crash; no key opens anything PREVIOUS ticks after its successor was taken up;
 * no worker opens with a key that is being overwritten; what is left in the table after a crash always is
 * enough to go on, and holds no epoch older than the one before.
 */
#define EPOCHS 2     /* steps of the client: three epochs */
#define SENDS 3      /* its packets */
#define NET 2        /* of them under way at once */
#define LIFE 1       /* ticks a packet may be under way and must still be taken */
#define PREVIOUS 2   /* SESSION_PREVIOUS_S */
#define WIPE 3       /* WIPE_AFTER_NS */
#define MIN_AGE 4    /* WIRE_EPOCH_MIN_S, of the first answer under an epoch */
#define END 7        /* ticks */
#ifdef NO_CRASH
#define CRASHES 0
#else
#define CRASHES 1
#endif
#define NONE 15

byte now;

/* the client (struct channel) */
byte c_epoch, c_answered = NONE, c_stepped;

/* the network: packets sealed under net_epoch; replies that may come back */
byte net_epoch[NET] = NONE, net_born[NET];
byte reply = NONE;

/* struct session_slot */
byte s_epoch, s_promoted;
byte s_keys[3] = NONE;   /* epoch whose keys are whole in keys[e % 3] */
byte s_secret[2] = NONE; /* epoch whose secret is in secrets[e & 1] */

/* struct session_cell: private, gone with the process */
byte epoch, began, previous_until;
bool next_ready;
byte expanded[2] = NONE; /* [epoch & 1]: whose key stands there; NONE = half written */
bool promotion, waiting; /* promotions ring, ratchet ring */
bool busy;               /* the service thread is at one of them */
byte crashes;

/* a worker between its look at the epoch and the opening */
bool opening;
byte opening_began;

#define AHEAD(flags) (((flags) + 4 - (epoch & 3)) & 3)

proctype client()
{
	byte sends, i;

	do
	:: sends == SENDS || now == END -> break
	:: atomic { reply != NONE -> /* an answer was opened */
		if :: reply == c_epoch && c_answered == NONE -> c_answered = now :: else fi;
		reply = NONE
	   }
	:: atomic {
		sends < SENDS && (net_epoch[0] == NONE || net_epoch[1] == NONE) ->
		sends++;
		if /* due(): the first step needs nothing, the others an answer that is old enough */
		:: c_epoch < EPOCHS && (c_epoch == 0 ||
#if defined(BROKEN_BLIND)
			now >= c_stepped + MIN_AGE
#elif defined(BROKEN_AGE)
			(c_answered != NONE && now >= c_stepped + MIN_AGE)
#else
			(c_answered != NONE && now >= c_answered + MIN_AGE)
#endif
			) -> c_epoch++; c_answered = NONE; c_stepped = now
		:: true
		fi;
		i = (net_epoch[0] == NONE -> 0 : 1);
		net_epoch[i] = c_epoch;
		net_born[i] = now;
		i = 0
	   }
	od
}

/* One worker; another one is kept out of a promotion by the compare-and-swap on next_ready. */
proctype worker()
{
	byte i, e, flags, at;
	bool repeat;

	do
	:: atomic { /* a packet is lost */
		net_epoch[0] != NONE -> net_epoch[0] = NONE; net_born[0] = 0
	   }
	:: atomic { /* look_up(), epoch_check() at the burst's time */
		if
		:: epoch != NONE && net_epoch[0] != NONE -> i = 0
		:: epoch != NONE && net_epoch[1] != NONE -> i = 1
		fi;
		e = net_epoch[i];
		at = now;
		flags = e & 3;
#ifdef NO_CRASH
		if :: repeat = true /* a copy stays under way */ :: repeat = false fi;
#endif
		if
		:: AHEAD(flags) == 0 || (AHEAD(flags) == 1 && next_ready) ||
		   (AHEAD(flags) == 3 && at < previous_until) ->
			opening = true; opening_began = now
		:: else -> /* DROP_EPOCH */
			assert(at > net_born[i] + LIFE || e != c_epoch);
			assert(at > net_born[i] + LIFE || crashes > 0);
			goto gone
		fi;
	   }
	   atomic { /* aead_open(), replay_accept(), session_promote() */
		assert(expanded[flags & 1] != NONE || !opening); /* half written: never looked at */
		if
		:: opening && expanded[flags & 1] == e ->
			/* no key works after its time: it is the present one, the next, or fresh enough */
			assert(e == epoch || e == epoch + 1 || (e + 1 == epoch && at < began + PREVIOUS));
			if
			:: AHEAD(flags) == 1 && next_ready ->
				next_ready = false;
				began = now;
				previous_until = now + PREVIOUS;
#ifndef BROKEN_PROMOTION
				s_promoted = epoch + 1; /* in the table, before the answer leaves */
#endif
				epoch++;
				promotion = true
			:: else
			fi;
			if :: reply = e :: true fi /* the answer comes through, or not */
		:: opening && expanded[flags & 1] != e -> /* DROP_AUTH */
			assert(at > net_born[i] + LIFE || e != c_epoch);
			assert(at > net_born[i] + LIFE || crashes > 0)
		:: else /* died in between */
		fi;
gone:
		opening = false; opening_began = 0;
		if :: !repeat -> net_epoch[i] = NONE; net_born[i] = 0 :: else fi;
		i = 0; e = 0; flags = 0; at = 0; repeat = false
	   }
	:: now == END -> break
	od
}

#define DUE (busy || promotion || (waiting && now >= began + WIPE))

/* ratchet_prepare(): keys of the next epoch, older ones wiped, expanded where the previous ones stood */
inline prepare()
{
	if
	:: s_keys[(epoch + 1) % 3] != epoch + 1 -> /* derive() */
		assert(s_secret[(epoch + 1) & 1] == epoch + 1);
		s_keys[(epoch + 1) % 3] = epoch + 1
	:: else
	fi;
	s_keys[(epoch + 2) % 3] = NONE;
	previous_until = 0;
	expanded[(epoch + 1) & 1] = NONE; /* being written */
	expanded[(epoch + 1) & 1] = epoch + 1;
	next_ready = true
}

/* slot_step(): the secret after next, its keys (valid last), the epoch; then the used secret is wiped */
inline slot_step()
{
#ifdef BROKEN_STEP
	s_epoch = s_epoch + 1;
	s_secret[(s_epoch + 1) & 1] = s_epoch + 1;
	s_keys[(s_epoch + 1) % 3] = NONE;
	s_keys[(s_epoch + 1) % 3] = s_epoch + 1;
#else
	s_secret[(s_epoch + 2) & 1] = s_epoch + 2;
	s_keys[(s_epoch + 2) % 3] = NONE;
	s_keys[(s_epoch + 2) % 3] = s_epoch + 2;
	s_epoch = s_epoch + 1;
#endif
	s_secret[s_epoch & 1] = NONE
}

proctype service()
{
again:
	do
	:: atomic { promotion && epoch == s_epoch + 1 ->
		promotion = false; busy = true }
		slot_step();
		atomic { waiting = true; busy = false }
	:: atomic { waiting && now >= began +
#ifdef BROKEN_WIPE
		1
#else
		WIPE
#endif
		-> waiting = false; busy = true }
		prepare();
		busy = false
	:: now == END -> break
	od unless { epoch == NONE };
	if
	:: epoch == NONE -> /* another dataplane: sessions_attach(), cell_fill() */
		atomic {
			if :: s_promoted == s_epoch + 1 -> slot_step() :: else fi;
			assert(s_keys[s_epoch % 3] == s_epoch); /* slot_check() */
			epoch = s_epoch; began = now; previous_until = 0; promotion = false; waiting = false; busy = false;
			next_ready = false;
			expanded[0] = NONE; expanded[1] = NONE;
			expanded[epoch & 1] = epoch;
			prepare();
			assert(s_keys[0] == NONE || s_keys[0] + 1 >= epoch);
			assert(s_keys[1] == NONE || s_keys[1] + 1 >= epoch);
			assert(s_keys[2] == NONE || s_keys[2] + 1 >= epoch)
		}
		goto again
	:: else
	fi
}

/* SIGKILL: what was private is gone, a packet in the worker's hands too. */
proctype killer()
{
end:
	atomic { crashes < CRASHES -> crashes++; epoch = NONE; opening = false }
}

/* The service thread turns every millisecond and a burst is short: neither lasts a tick. */
proctype clock()
{
	do
	:: now == END -> break
	:: atomic { now < END && epoch != NONE && !DUE && (!opening || opening_began == now) -> now++ }
	od
}

init {
	atomic {
		s_keys[0] = 0; s_keys[1] = 1; s_secret[1] = 1;
		expanded[0] = 0; expanded[1] = 1; next_ready = true;
		run client(); run worker(); run service(); run clock();
		if :: CRASHES > 0 -> run killer() :: else fi
	}
}
