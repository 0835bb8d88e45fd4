// What the threads of a warp do together, and asynchronous copies. PTX ISA 9.0, 9.7.9 and 9.7.13.
#include "fibers.h"
#include "hopper.h"

namespace emu {
namespace {

template <class T>
T& slot(Warp* w, uint32_t lane) {
  return *static_cast<T*>(slot_of(w, lane));
}

template <class F>
void each(uint32_t lanes, F f) {
  for (; lanes; lanes &= lanes - 1) f(uint32_t(__builtin_ctz(lanes)));
}

struct Shuffle {
  uint32_t value, source, result;
  bool is_valid;
};

void act_shuffle(Warp* w, uint32_t lanes) {
  each(lanes, [&](uint32_t l) {
    Shuffle& s = slot<Shuffle>(w, l);
    // A source that takes no part gives an undefined value: one that is easily seen.
    s.result = lanes >> s.source & 1 ? slot<Shuffle>(w, s.source).value : 0xFFFFDEAD;
  });
}

// 9.7.9.6 (shfl.sync): the source lane and whether it is in range.
void shuffle_source(ShuffleMode mode, uint32_t lane, uint32_t b, uint32_t c, Shuffle* s) {
  uint32_t bits = b & 31, clamp = c & 31, segment = c >> 8 & 31;
  int max = int((lane & segment) | (clamp & ~segment)), min = int(lane & segment), j = 0;
  switch (mode) {
    case kUp:
      j = int(lane) - int(bits);
      s->is_valid = j >= max;
      break;
    case kDown:
      j = int(lane + bits);
      s->is_valid = j <= max;
      break;
    case kButterfly:
      j = int(lane ^ bits);
      s->is_valid = j <= max;
      break;
    case kIndex:
      j = min | int(bits & ~segment);
      s->is_valid = j <= max;
      break;
  }
  s->source = s->is_valid ? uint32_t(j) & 31 : lane;
}

struct Vote {
  bool value;
  uint32_t all, any, ballot, lanes;
};

void act_vote(Warp* w, uint32_t lanes) {
  uint32_t ballot = 0;
  each(lanes, [&](uint32_t l) { ballot |= uint32_t(slot<Vote>(w, l).value) << l; });
  each(lanes, [&](uint32_t l) {
    Vote& v = slot<Vote>(w, l);
    v.ballot = ballot;
    v.lanes = lanes;
  });
}

struct Match {
  uint64_t value;
  uint32_t any, all;
};

void act_match(Warp* w, uint32_t lanes) {
  each(lanes, [&](uint32_t l) {
    Match& m = slot<Match>(w, l);
    m.any = 0;
    each(lanes, [&](uint32_t o) { m.any |= uint32_t(slot<Match>(w, o).value == m.value) << o; });
    m.all = m.any == lanes ? lanes : 0;
  });
}

struct Reduce {
  ReduceMode mode;
  bool is_signed;
  uint32_t value;
};

uint32_t combine(const Reduce& r, uint32_t a, uint32_t b) {
  bool less = r.is_signed ? int32_t(a) < int32_t(b) : a < b;
  switch (r.mode) {
    case kReduceAdd:
      return a + b;
    case kReduceMin:
      return less ? a : b;
    case kReduceMax:
      return less ? b : a;
    case kReduceAnd:
      return a & b;
    case kReduceOr:
      return a | b;
    default:
      return a ^ b;
  }
}

void act_reduce(Warp* w, uint32_t lanes) {
  uint32_t first = uint32_t(__builtin_ctz(lanes));
  Reduce total = slot<Reduce>(w, first);
  each(lanes & ~(1u << first),
       [&](uint32_t l) { total.value = combine(total, total.value, slot<Reduce>(w, l).value); });
  each(lanes, [&](uint32_t l) { slot<Reduce>(w, l).value = total.value; });
}

struct Elect {
  uint32_t leader;
};

void act_elect(Warp* w, uint32_t lanes) {
  each(lanes, [&](uint32_t l) { slot<Elect>(w, l).leader = uint32_t(__builtin_ctz(lanes)); });
}

}  // namespace

uint32_t shuffle(Thread* t, ShuffleMode mode, uint32_t value, uint32_t b, uint32_t c, uint32_t mask,
                 bool* valid) {
  Shuffle s = {value, 0, 0, false};
  shuffle_source(mode, t->lane, b, c, &s);
  meet(t, mask, &act_shuffle, &s);
  if (valid) *valid = s.is_valid;
  return s.result;
}

uint32_t vote(Thread* t, VoteMode mode, bool value, uint32_t mask) {
  Vote v = {value, 0, 0, 0, 0};
  meet(t, mask, &act_vote, &v);
  switch (mode) {
    case kAll:
      return v.ballot == v.lanes;
    case kAny:
      return v.ballot != 0;
    case kUniform:
      return v.ballot == v.lanes || v.ballot == 0;
    default:
      return v.ballot;
  }
}

uint32_t match_any(Thread* t, uint64_t value, uint32_t mask) {
  Match m = {value, 0, 0};
  meet(t, mask, &act_match, &m);
  return m.any;
}

uint32_t match_all(Thread* t, uint64_t value, uint32_t mask, bool* same) {
  Match m = {value, 0, 0};
  meet(t, mask, &act_match, &m);
  if (same) *same = m.all != 0;
  return m.all;
}

uint32_t reduce(Thread* t, ReduceMode mode, bool is_signed, uint32_t value, uint32_t mask) {
  Reduce r = {mode, is_signed, value};
  meet(t, mask, &act_reduce, &r);
  return r.value;
}

uint32_t elect(Thread* t, uint32_t mask, bool* chosen) {
  Elect e = {0};
  meet(t, mask, &act_elect, &e);
  *chosen = e.leader == t->lane;
  return e.leader;
}

void warp_sync(Thread* t, uint32_t mask) { meet(t, mask, nullptr, nullptr); }

void async_copy(Thread* t, uint32_t to, uint64_t from, uint32_t bytes, uint32_t source_bytes) {
  if (source_bytes > bytes) fail(t, kIllegalInstruction, "cp.async of %u bytes from %u", bytes, source_bytes);
  if (from % bytes) misaligned(t, from, bytes);
  shared_at(t, to, bytes);
  if (!t->copies) t->copies = new AsyncCopies;
  t->copies->copies.push_back({to, from, bytes, source_bytes});
  t->copies->open++;
}

void async_commit(Thread* t) {
  if (!t->copies) t->copies = new AsyncCopies;
  t->copies->groups.push_back(t->copies->open);
  t->copies->open = 0;
}

static void do_copies(Thread* t, size_t count) {
  for (; count; count--) {
    AsyncCopy c = t->copies->copies.front();
    t->copies->copies.pop_front();
    uint8_t* to = static_cast<uint8_t*>(shared_at(t, c.to, c.bytes));
    if (c.source_bytes)
      memcpy(to, global_at(t, c.from, c.source_bytes == c.bytes ? c.bytes : 1), c.source_bytes);
    memset(to + c.source_bytes, 0, c.bytes - c.source_bytes);
  }
}

void async_wait(Thread* t, uint32_t groups) {
  if (!t->copies) return;
  while (t->copies->groups.size() > groups) {
    size_t count = t->copies->groups.front();
    t->copies->groups.pop_front();
    do_copies(t, count);
  }
}

void async_wait_all(Thread* t) {
  if (!t->copies) return;
  async_wait(t, 0);
  do_copies(t, t->copies->open);
  t->copies->open = 0;
}

void add_bulk_store(Thread* t, std::function<void()> work) {
  if (!t->copies) t->copies = new AsyncCopies;
  t->copies->bulk_open.push_back(std::move(work));
}

void bulk_commit(Thread* t) {
  if (!t->copies) t->copies = new AsyncCopies;
  t->copies->bulk_groups.push_back(std::move(t->copies->bulk_open));
  t->copies->bulk_open.clear();
}

void bulk_wait(Thread* t, uint32_t groups) {
  if (!t->copies) return;
  while (t->copies->bulk_groups.size() > groups) {
    for (const auto& work : t->copies->bulk_groups.front()) work();
    t->copies->bulk_groups.pop_front();
  }
}

}  // namespace emu
