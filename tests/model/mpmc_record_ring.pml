/* The protocol of plugins/shm/ring/mpmc_record_protocol.h and mpmc_record_recovery.h as a Spin model: members that send,
 * receive and recover, any of them dying before any step, recovery by several survivors at once. No live owner loses its
 * slot, nothing is received twice, a loss is counted once, what a producer had committed is not skipped, and at every
 * moment the survivors can finish: see `settled`.
 *
 * One step is one access to shared memory; memory is sequentially consistent here (mpmc_record_relacy.cpp has the weak
 * one). SLOTS, PRODUCERS, CONSUMERS, OPS (claims of each producer), BATCH (positions of one claim, at most), DEATHS: sizes
 * of the search. Each member has a line, producers first. Members that have nothing to do recover what is dead; at the end
 * one last survivor, whom nobody kills, recovers alone, receives all that is left, and does the account.
 *
 * -DBROKEN=n removes one part of the rule, and Spin must find an error:
 *   1  nothing is announced                                 2  announced after the swap
 *   3  a loser does not withdraw its announcement           4  the swap overtakes the announcement (no release)
 *   5  a tombstone is stored, not swapped                   6  candidates are not asked: the line of one dead is enough
 *   7  the announcements are read before the tail           8  the living are taken for dead (a time-out)
 *   9  a line is freed before its positions are settled    10  a loss is counted by whoever swaps, without parity
 *  11  a new announcement before the batch is settled      12  the dead consumer's slot is freed by a store
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 1
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef BATCH
#define BATCH 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define MEMBERS (PRODUCERS + CONSUMERS)
#define POSITIONS (PRODUCERS * OPS * BATCH)
#define NONE 255

/* A slot's word: lap * 8 + state. */
#define EMPTY 0
#define FULL 1
#define TOMB 2
#define LOST 4 /* 4: even, 5: odd */
#define WORD(p, state) (((p) / SLOTS) * 8 + (state))
#define NEXT(word) (((word) / 8 + 1) * 8)
#define SLOT(p) ((p) % SLOTS)

byte word[SLOTS];
byte losses[SLOTS];
byte tail, head;
byte announced[MEMBERS]; /* first position; NONE: nothing. A line is used for one side only, here. */
byte announced_count[MEMBERS];
bit attached[MEMBERS]; /* the line has a user, dead or not */

/* What only the checker knows. */
bit dead[MEMBERS];
byte deaths;
byte owner[POSITIONS + 1];    /* who claimed it to produce, + 1 */
byte taker[POSITIONS + 1];    /* who claimed it to consume, + 1 */
bit committed[POSITIONS + 1]; /* as a message */
bit received[POSITIONS + 1];  /* its taker has looked at it */
byte lost[POSITIONS + 1];     /* how often it was counted */
byte finished;

/* A death is possible before each step. What follows in the same `atomic` is that step. */
#define MAY_DIE                                     \
  if                                                \
  :: deaths < DEATHS && me != NONE -> deaths++; dead[me] = 1; goto died \
  :: true                                           \
  fi

/* Counting a loss and freeing the slot: finish_loss() in the code. Each line one step. */
inline finish_loss(s) {
  atomic { MAY_DIE; c = losses[s] };
  atomic { MAY_DIE; same = (word[s] == w) };
  if
  :: same ->
    atomic {
      MAY_DIE;
      if
      :: (BROKEN == 10 || c % 2 == w % 2) && losses[s] == c -> losses[s] = c + 1; lost[(w / 8) * SLOTS + s]++
      :: BROKEN == 10 && losses[s] != c -> losses[s] = losses[s] + 1; lost[(w / 8) * SLOTS + s]++
      :: else
      fi
    };
    atomic {
      MAY_DIE;
      if
      :: word[s] == w -> word[s] = NEXT(w)
      :: else
      fi
    }
  :: else
  fi
}

/* Whether everybody who announced p on this side is dead; goes to `later` otherwise. */
inline ask_candidates(p, first, last) {
  j = first;
  do
  :: j < last ->
    atomic {
      MAY_DIE;
      if
      :: BROKEN != 6 && BROKEN != 8 && j != dying && announced[j] != NONE && p >= announced[j] &&
             p < announced[j] + announced_count[j] && attached[j] && !dead[j] -> goto later
      :: else
      fi
    };
    j++
  :: else -> break
  od
}

/* One survivor settles what one dead member left, as far as that is possible now. */
inline recover() {
  d_step { dying = 0; c = 0; w = 0; j = 0; p = 0; q = 0; same = 0 };
  do
  :: dying < MEMBERS ->
    if
    :: dying != me && attached[dying] && (dead[dying] || (BROKEN == 8 && announced[dying] != NONE)) ->
      atomic { MAY_DIE; p = announced[dying]; q = announced_count[dying] };
      if
      :: BROKEN == 9 -> atomic { MAY_DIE; attached[dying] = 0; announced[dying] = NONE }
      :: else
      fi;
      do
      :: p != NONE && q > 0 ->
        if
        :: BROKEN == 7 -> ask_candidates(p, (dying < PRODUCERS -> 0 : PRODUCERS), (dying < PRODUCERS -> PRODUCERS : MEMBERS))
        :: else
        fi;
        atomic {
          MAY_DIE;
          if
          :: (dying < PRODUCERS -> tail : head) <= p -> w = NONE /* announced, never claimed */
          :: else -> w = word[SLOT(p)]
          fi
        };
        if
        :: w == NONE
        :: w != NONE && dying < PRODUCERS && w == WORD(p, EMPTY) ->
          if
          :: BROKEN != 7 -> ask_candidates(p, 0, PRODUCERS)
          :: else
          fi;
          atomic {
            MAY_DIE;
            if
            :: BROKEN == 5 || word[SLOT(p)] == w ->
              assert(dead[owner[p] - 1] && !committed[p]); /* nobody alive loses its slot, nothing sent is skipped */
              word[SLOT(p)] = WORD(p, TOMB)
            :: else
            fi
          }
        :: w != NONE && dying >= PRODUCERS && (w == WORD(p, FULL) || w == WORD(p, TOMB)) ->
          if
          :: BROKEN != 7 -> ask_candidates(p, PRODUCERS, MEMBERS)
          :: else
          fi;
          if
          :: w == WORD(p, TOMB) ->
            atomic {
              MAY_DIE;
              if
              :: word[SLOT(p)] == w -> assert(dead[taker[p] - 1]); word[SLOT(p)] = NEXT(w)
              :: else
              fi
            }
          :: else ->
            atomic { MAY_DIE; c = losses[SLOT(p)] };
            atomic {
              MAY_DIE;
              if
              :: BROKEN == 12 || word[SLOT(p)] == w ->
                assert(dead[taker[p] - 1]);
                word[SLOT(p)] = WORD(p, LOST + c % 2)
              :: else
              fi;
              w = word[SLOT(p)]
            };
            skip
          fi
        :: else
        fi;
        if
        :: dying >= PRODUCERS && w != NONE && w % 8 >= LOST -> finish_loss(SLOT(p))
        :: else
        fi;
        p++;
        q--
      :: else -> break
      od;
      atomic { MAY_DIE; attached[dying] = 0 };
      goto next_line;
    later:
      skip;
    next_line:
      skip
    :: else
    fi;
    dying++
  :: else -> break
  od;
  skip;
  d_step { dying = 0; c = 0; w = 0; j = 0; p = 0; q = 0; same = 0 }
}

proctype producer(byte me) {
  byte at, count, want, done, i;
  byte dying, c, w, j, p, q;
  bit same;

  do
  :: done < OPS ->
    atomic { MAY_DIE; at = tail };
    /* The words are looked at one by one. */
    count = 0;
    do
    :: count < BATCH && at + count < POSITIONS ->
      atomic {
        MAY_DIE;
        if
        :: word[SLOT(at + count)] == WORD(at + count, EMPTY) -> count++
        :: else -> goto looked
        fi
      }
    :: else -> break
    od;
  looked:
    skip;
    if
    :: count == 0 -> goto in_the_way
    :: else
    fi;
    if
    :: BROKEN == 1 || BROKEN == 2
    :: BROKEN == 4 -> /* the swap is performed before the store */
      atomic {
        MAY_DIE;
        if
        :: tail == at ->
          tail = at + count;
          i = 0;
          do
          :: i < count -> owner[at + i] = me + 1; i++
          :: else -> break
          od
        :: else -> goto in_the_way
        fi
      }
    :: else
    fi;
    if
    :: BROKEN != 1 && BROKEN != 2 -> atomic { MAY_DIE; announced[me] = at; announced_count[me] = count }
    :: else
    fi;
    if
    :: BROKEN != 4 ->
      atomic {
        MAY_DIE;
        if
        :: tail == at ->
          tail = at + count;
          i = 0;
          do
          :: i < count -> owner[at + i] = me + 1; i++
          :: else -> break
          od
        :: else -> goto loser
        fi
      }
    :: else
    fi;
    if
    :: BROKEN == 2 -> atomic { MAY_DIE; announced[me] = at; announced_count[me] = count }
    :: else
    fi;
    i = 0;
    do
    :: i < count ->
      if
      :: BROKEN == 11 -> atomic { MAY_DIE; announced[me] = at + count; announced_count[me] = 1 }
      :: else
      fi;
      atomic {
        MAY_DIE;
        assert(word[SLOT(at + i)] == WORD(at + i, EMPTY)); /* still ours */
        if
        :: committed[at + i] = 1; word[SLOT(at + i)] = WORD(at + i, FULL)
        :: word[SLOT(at + i)] = WORD(at + i, TOMB) /* abort */
        fi
      };
      i++
    :: else -> break
    od;
    done++;
    goto next;
  loser:
    if
    :: BROKEN != 3 -> atomic { MAY_DIE; announced[me] = NONE }
    :: BROKEN == 3 -> break /* gives up, its announcement stands */
    fi;
    goto next;
  in_the_way:
    if
    :: deaths > 0 -> recover()
    :: at + 0 >= POSITIONS || deaths == DEATHS -> break
    :: true
    fi;
    if /* gives up, or tries again */
    :: break
    :: true
    fi;
  next:
    skip;
    d_step { at = 0; count = 0; i = 0 }
  :: else -> break
  od;
died:
  atomic { finished++; at = 0; count = 0; i = 0; done = 0; dying = 0; c = 0; w = 0; j = 0; p = 0; q = 0; same = 0 }
}

proctype consumer(byte me; bit last) {
  byte at, count, i, tries;
  bit recovered;
  byte dying, c, w, j, p, q;
  bit same;

  if
  :: last -> finished == MEMBERS
  :: else
  fi;
  do
  :: last || tries < POSITIONS + 1 ->
    tries = (last -> 0 : tries + 1);
    atomic { MAY_DIE; at = head };
    count = 0;
    do
    :: count < BATCH && at + count < POSITIONS ->
      atomic {
        MAY_DIE;
        if
        :: word[SLOT(at + count)] == WORD(at + count, FULL) || word[SLOT(at + count)] == WORD(at + count, TOMB) -> count++
        :: else -> goto looked
        fi
      }
    :: else -> break
    od;
  looked:
    skip;
    if
    :: count == 0 ->
      if
      :: last && recovered ->
        assert(head == tail); /* the last survivor is not blocked by any dead member */
        break
      :: last && !recovered
      :: !last && deaths > 0
      :: !last -> goto idle
      fi;
      recover();
      recovered = last;
    idle:
      if
      :: !last -> break
      :: true
      fi;
      goto next
    :: else
    fi;
    if
    :: me != NONE && BROKEN != 1 && BROKEN != 2 && BROKEN != 4 ->
      atomic { MAY_DIE; announced[me] = at; announced_count[me] = count }
    :: else
    fi;
    atomic {
      MAY_DIE;
      if
      :: head == at ->
        head = at + count;
        i = 0;
        do
        :: i < count -> taker[at + i] = me + 1; i++
        :: else -> break
        od
      :: else -> goto loser
      fi
    };
    if
    :: me != NONE && (BROKEN == 2 || BROKEN == 4) -> atomic { MAY_DIE; announced[me] = at; announced_count[me] = count }
    :: else
    fi;
    i = 0;
    do
    :: i < count ->
      atomic {
        MAY_DIE;
        w = word[SLOT(at + i)];
        assert(w == WORD(at + i, FULL) || w == WORD(at + i, TOMB)); /* still ours */
        assert((w % 8 == FULL) == committed[at + i]);
        assert(!received[at + i]);
        received[at + i] = 1
      };
      atomic { MAY_DIE; assert(word[SLOT(at + i)] == w); word[SLOT(at + i)] = NEXT(w); w = 0 };
      i++
    :: else -> break
    od;
    goto next;
  loser:
    if
    :: me != NONE && BROKEN != 3 -> atomic { MAY_DIE; announced[me] = NONE }
    :: me != NONE && BROKEN == 3 -> break
    :: me == NONE
    fi;
  next:
    skip;
    d_step { at = 0; count = 0; i = 0; w = 0 }
  :: else -> break
  od;
  if
  :: last -> /* the account: every position claimed is received, or lost once, or was nothing; all slots are free */
    d_step {
      i = 0;
      do
      :: i < tail ->
        assert(lost[i] <= 1);
        assert(!committed[i] || received[i] || lost[i] == 1);
        assert(!lost[i] || (committed[i] && taker[i] != 0 && dead[taker[i] - 1]));
        assert(word[SLOT(i)] / 8 > i / SLOTS && word[SLOT(i)] % 8 == EMPTY);
        i++
      :: else -> break
      od;
      i = 0;
      do
      :: i < MEMBERS -> assert(!dead[i] || !attached[i]); i++
      :: else -> break
      od
    }
  :: else
  fi;
died:
  atomic {
    if
    :: !last -> finished++
    :: else
    fi;
    at = 0; count = 0; i = 0; tries = 0; dying = 0; c = 0; w = 0; j = 0; p = 0; q = 0; same = 0
  }
}

init {
  atomic {
    byte n = 0;
    do
    :: n < MEMBERS -> announced[n] = NONE; attached[n] = 1; n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < PRODUCERS -> run producer(n); n++
    :: else -> break
    od;
    do
    :: n < MEMBERS -> run consumer(n, 0); n++
    :: else -> break
    od;
    n = 0;
    run consumer(NONE, 1)
  }
}
