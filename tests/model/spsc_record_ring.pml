/* The record ring of plugins/shm/ring as a Spin model: no consumer takes a stale word for a commit, whatever the mix of record
 * sizes, batches, aborted and shrunk claims, padding and laps; nothing flushed is overlooked; no line is freed early.
 *
 * Small on purpose: 5 lines, records of 1 to 3 lines (so that padding takes up to 2), and 2 stamps instead of 15, because the
 * proof in record_ring.h needs two. Positions count lines modulo LINES * STAMPS, which is exact as they never differ by more than LINES. Payload words look
 * like a commit of either lap: what matters of a stale word is its stamp. Memory is sequentially consistent here; what release and acquire
 * contribute is checked under Relacy (spsc_record_relacy.cpp) and by the thread sanitizer (tests/unit/plugins/shm/ring/record_ring_stress_test.cpp).
 *
 * -DBROKEN=n removes one part of the rule, and then Spin must find an error:
 *   1  a dirty next header is not set to 0       2  claimed lines are not marked
 *   3  lines under padding are not marked        4  lines are marked for what was committed, not for what was claimed
 *   5  stamps do not change with the lap         6  lines are set to 0 ahead of the tail without a look whether they are free
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define LINES 5
#define STAMPS 2
#define WRAP (LINES * STAMPS)
#define PAD 0 /* as a size */
#define LINE(p) ((p) % LINES)
#if BROKEN == 5
#define STAMP(p) 1
#else
#define STAMP(p) ((p) / LINES + 1)
#endif
#define WORD(stamp, size) ((stamp) * 4 + (size))
#define STAMP_OF(w) ((w) / 4)
#define SIZE_OF(w) ((w) % 4)
#define AHEAD(from, to) (((to) + WRAP - (from)) % WRAP)

byte word[LINES]; /* shared */
byte head;        /* shared, written by the consumer */

/* What was really committed: the size of the record or padding that begins at a line, and up to where it is flushed. */
byte committed[LINES];
byte flushed;

active proctype producer() {
  bit dirty[LINES];
  byte tail, head_seen, first_word, first_at;
  byte size, used, begin, i;

  do
  :: atomic { /* claim and payload: nobody may look at what they touch, and what they leave stays to be looked at */
    if
    :: size = 1
    :: size = 2
    :: size = 3
    fi;
    begin = tail;
    if
    :: LINE(tail) + size > LINES -> begin = (tail + LINES - LINE(tail)) % WRAP
    :: else
    fi;
    do
    :: AHEAD(head_seen, tail) + AHEAD(tail, begin) + size <= LINES -> break
    :: else ->
      head_seen = head;
      if
      :: AHEAD(head_seen, tail) + AHEAD(tail, begin) + size <= LINES -> break
      :: else ->
        goto flush_then_again
      fi
    od;
    i = 1;
    do
    :: i < size ->
      if
      :: BROKEN != 2 && BROKEN != 4 -> dirty[LINE(begin) + i] = 1
      :: else
      fi;
      /* The borrower writes what it likes. */
      if
      :: word[LINE(begin) + i] = WORD(1, 1)
      :: word[LINE(begin) + i] = WORD(2, 1)
      fi;
      i++
    :: else -> break
    od;
    i = 0
    };
    used = size;
    if
    :: goto maybe_flush /* abort */
    :: used = 1         /* shrink, or a record of one line */
    :: skip
    fi;
    /* commit: padding first, when the claim began in the next lap */
    if
    :: begin != tail ->
      atomic {
        committed[LINE(tail)] = PAD;
        if
        :: first_word == 0 ->
          first_word = WORD(STAMP(tail), PAD);
          first_at = tail
        :: else ->
          word[LINE(tail)] = WORD(STAMP(tail), PAD);
          dirty[LINE(tail)] = 0
        fi;
        i = LINE(tail) + 1;
        do
        :: i < LINES ->
          if
          :: BROKEN != 3 -> dirty[i] = 1
          :: else
          fi;
          i++
        :: else -> break
        od
      }
    :: else
    fi;
    atomic {
      committed[LINE(begin)] = used;
      if
      :: first_word == 0 ->
        first_word = WORD(STAMP(begin), used);
        first_at = begin
      :: else ->
        word[LINE(begin)] = WORD(STAMP(begin), used);
        dirty[LINE(begin)] = 0
      fi;
      i = 1;
      do
      :: i < used ->
        if
        :: BROKEN == 4 -> dirty[LINE(begin) + i] = 1
        :: else
        fi;
        i++
      :: else -> break
      od;
      tail = (begin + used) % WRAP
    };
  maybe_flush:
    if
    :: skip /* the batch stays open */
    :: goto flush_then_again
    fi;
    goto again;
  flush_then_again:
    if
    :: first_word != 0 ->
      if
      :: dirty[LINE(tail)] ->
        if
        :: BROKEN != 1 -> word[LINE(tail)] = 0
        :: else
        fi;
        dirty[LINE(tail)] = 0
      :: else
      fi;
      atomic {
        assert(first_at == flushed);
        word[LINE(first_at)] = first_word; /* FILLED */
        flushed = tail;
        first_word = 0
      }
    :: else
    fi;
  again:
    skip;
    atomic { /* between two claims, some of the dirty lines ahead may be set to 0: those that are free */
      i = 0;
      do
      :: i < LINES ->
        if
        :: dirty[LINE(tail + i)] && (AHEAD(head_seen, tail) + i < LINES || BROKEN == 6) ->
          assert(AHEAD(head, tail) + i < LINES); /* else it is payload that is still to be read */
          word[LINE(tail + i)] = 0;
          dirty[LINE(tail + i)] = 0
        :: skip
        fi;
        i++
      :: else -> break
      od
    };
    atomic {
      size = 0;
      used = 0;
      begin = 0;
      i = 0;
      if
      :: first_word == 0 -> first_at = 0
      :: else
      fi
    }
  od
}

active proctype consumer() {
  byte next;

  do
  :: atomic { /* one load, and what follows from it; the ghost variables are looked at in the same instant */
      if
      :: STAMP_OF(word[LINE(next)]) == STAMP(next) ->
        assert(flushed != next);                                   /* something was flushed here, */
        assert(SIZE_OF(word[LINE(next)]) == committed[LINE(next)]); /* namely this. */
        if
        :: committed[LINE(next)] == PAD -> next = (next + LINES - LINE(next)) % WRAP
        :: else -> next = (next + committed[LINE(next)]) % WRAP
        fi
      :: else ->
        assert(flushed == next); /* nothing is overlooked */
        assert(word[LINE(next)] == 0 || STAMP_OF(word[LINE(next)]) != 0) /* what record_consumer.h demands */
      fi
    }
  :: head != next -> head = next /* FREED; late, or never */
  od
}
