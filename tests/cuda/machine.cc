// Fibers and their scheduler. See machine.h.
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>

#include "fibers.h"
#include "hopper.h"
#include "runtime.h"

// Saves the callee-saved registers of the System V x86-64 ABI on the stack, then takes the other stack's.
extern "C" void emu_switch(void** save, void* load);
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch, @function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch, .-emu_switch
)");

namespace emu {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxSlots = 64;  // blocks resident at the same time
constexpr uint32_t kPatience = 64;  // fruitless rounds before more blocks are started
constexpr uint32_t kHopeless = 200000;

struct Machine {
  const Launch* launch = nullptr;
  std::vector<std::unique_ptr<Cta>> slots;
  std::vector<Cluster*> resident;
  std::vector<Warp*> warps;  // of resident blocks
  size_t cursor = 0;
  uint64_t next_cluster = 0, cluster_count = 0;
  uint32_t fruitless = 0;
  bool is_reversed = false;  // the last warp and the last lane go first
  std::deque<std::function<void()>> deferred;
  Thread* current = nullptr;
  void* main_stack = nullptr;
  int error = 0;
  std::string message;
};

Machine machine;

uint8_t* stack_area(uint32_t slot) {
  static uint8_t* areas[kMaxSlots];
  if (!areas[slot]) {
    void* area = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) abort();
    for (uint32_t i = 0; i < kMaxThreads; i++)
      mprotect(static_cast<uint8_t*>(area) + i * kStackBytes, 4096, PROT_NONE);
    areas[slot] = static_cast<uint8_t*>(area);
  }
  return areas[slot];
}

uint8_t* shared_window() {
  static uint8_t* window = [] {
    void* at = mmap(reinterpret_cast<void*>(kSharedWindow), size_t(kMaxSlots) * kSharedStride, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (at == MAP_FAILED) abort();
    return static_cast<uint8_t*>(at);
  }();
  return window;
}

[[noreturn]] void leave() {
  void* dead;
  emu_switch(&dead, machine.main_stack);
  abort();
}

uint32_t lowest(uint32_t bits) { return uint32_t(__builtin_ctz(bits)); }

bool start_cluster();

// Those that asked for the active mask are, all others being blocked, what is active.
bool answer_asking() {
  bool any = false;
  for (Warp* w : machine.warps) {
    if (!w->asking) continue;
    for (uint32_t l = w->asking; l; l &= l - 1) w->threads[lowest(l)].barrier_result = w->asking;
    w->ready |= w->asking;
    w->asking = 0;
    any = true;
  }
  return any;
}

bool do_deferred() {
  if (machine.deferred.empty()) return false;
  std::function<void()> work = std::move(machine.deferred.front());
  machine.deferred.pop_front();
  work();
  machine.fruitless = 0;
  return true;
}

bool wake_polling() {
  bool any = false;
  for (Warp* w : machine.warps) {
    w->ready |= w->polling;
    any |= w->polling != 0;
    w->polling = 0;
  }
  if (any) machine.fruitless++;
  return any;
}

std::string where_all_wait() {
  std::string out;
  char text[200];
  int lines = 0;
  for (Warp* w : machine.warps) {
    for (uint32_t l = 0; l < w->size && lines < 12; l++) {
      Thread& t = w->threads[l];
      if (w->exited >> l & 1) continue;
      if (l && !(w->exited >> (l - 1) & 1) && w->threads[l - 1].line == t.line) continue;
      snprintf(text, sizeof text, "\n  block (%u,%u,%u) warp %u lane %u waits at PTX line %u%s", t.ctaid.x,
               t.ctaid.y, t.ctaid.z, t.warp_index, l, t.line, t.waits_for >= 0 ? " (barrier)" : "");
      out += text;
      lines++;
    }
  }
  return out;
}

// The warp after one of `n`.
size_t neighbour(size_t at, size_t n) {
  if (machine.is_reversed) return at ? at - 1 : n - 1;
  return at + 1 < n ? at + 1 : 0;
}

// The next thread to run: of the current warp if it can, so that a warp's threads stay together. Null when
// none ever will.
Thread* pick() {
  for (;;) {
    size_t n = machine.warps.size();
    for (size_t i = 0, at = machine.cursor; i < n; i++, at = neighbour(at, n)) {
      Warp* w = machine.warps[at];
      if (!w->ready) continue;
      uint32_t lane = machine.is_reversed ? 31 - uint32_t(__builtin_clz(w->ready)) : lowest(w->ready);
      w->ready &= ~(1u << lane);
      machine.cursor = at;
      return machine.current = &w->threads[lane];
    }
    if (do_deferred()) {
      wake_polling();
      continue;
    }
    if (answer_asking()) continue;
    if (machine.fruitless >= kPatience && start_cluster()) {
      machine.fruitless = 0;
      continue;
    }
    if (machine.fruitless < kHopeless && wake_polling()) {
      machine.cursor = neighbour(machine.cursor, n);
      continue;
    }
    return nullptr;
  }
}

Thread* pick_or_fail(Thread* t) {
  Thread* next = pick();
  if (!next) fail(t, kTimeout, "no thread can go on%s", where_all_wait().c_str());
  return next;
}

// Gives the processor away; returns when `t` is picked again.
void block(Thread* t) {
  Thread* next = pick_or_fail(t);
  if (next != t) emu_switch(&t->stack, next->stack);
}

void finish(Warp* w, Meeting* m, uint32_t self) {
  uint32_t lanes = m->arrived;
  m->arrived = 0;
  if (m->act) m->act(w, lanes);
  w->ready |= lanes & ~self;
  machine.fruitless = 0;
}

void complete_barrier(Cta* cta, uint32_t id) {
  Barrier& b = cta->barriers[id];
  Barrier done = b;
  b = Barrier();
  machine.fruitless = 0;
  if (!done.waiting) return;
  uint32_t all = done.all, any = done.any, count = done.count;
  for (Warp& w : cta->warps)
    for (uint32_t l = 0; l < w.size; l++) {
      Thread& t = w.threads[l];
      if (t.waits_for != int(id)) continue;
      t.waits_for = -1;
      t.barrier_result = all | any << 1 | count << 2;
      w.ready |= 1u << l;
    }
}

bool is_complete(const Cta* cta, const Barrier& b) {
  return b.arrived && b.arrived >= (b.expected ? b.expected : cta->live);
}

void complete_cluster_barrier(Cluster* cluster) {
  cluster->arrived = 0;
  cluster->phase++;
  machine.fruitless = 0;
}

void arrive(Thread* t, uint32_t id, uint32_t count, bool value, bool waits) {
  if (id >= 16) fail(t, kIllegalInstruction, "barrier %u", id);
  if (count % 32)
    fail(t, kIllegalInstruction, "barrier %u with %u threads: not a multiple of the warp size", id, count);
  Barrier& b = t->cta->barriers[id];
  if (b.arrived && b.expected != count)
    fail(t, kLaunchFailure, "barrier %u with %u and with %u threads", id, b.expected, count);
  b.expected = count;
  b.arrived++;
  b.all &= value;
  b.any |= value;
  b.count += value;
  if (waits) {
    b.waiting++;
    t->waits_for = int(id);
  }
  if (is_complete(t->cta, b)) complete_barrier(t->cta, id);
}

void wait_barrier(Thread* t) {
  Warp* w = t->warp;
  if (t->waits_for < 0)
    w->ready &= ~(1u << t->lane);  // was the last to come: goes on at once
  else
    block(t);
}

void thread_main() {
  Thread* t = machine.current;
  machine.launch->kernel->run(t);
  exit_thread(t);
}

void prepare_stack(Thread* t, uint8_t* top) {
  void** sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;                                // keeps the entry's stack 16 bytes aligned, less 8
  *--sp = reinterpret_cast<void*>(&thread_main);  // where emu_switch returns to
  for (int i = 0; i < 6; i++) *--sp = nullptr;    // rbp rbx r12 r13 r14 r15
  t->stack = sp;
}

uint64_t volume(Dim3 d) { return uint64_t(d.x) * d.y * d.z; }

Dim3 unravel(uint64_t index, Dim3 d) {
  return {uint32_t(index % d.x), uint32_t(index / d.x % d.y), uint32_t(index / d.x / d.y)};
}

uint32_t free_slots(uint32_t count) {  // `count` neighbours, at a multiple of the next power of two
  for (uint32_t at = 0; at + count <= kMaxSlots; at += count) {
    bool is_free = true;
    for (uint32_t i = 0; i < count; i++) is_free &= at + i >= machine.slots.size() || !machine.slots[at + i];
    if (is_free) return at;
  }
  return kMaxSlots;
}

void start_cta(Cluster* cluster, uint32_t slot, uint32_t rank, uint64_t cluster_index) {
  const Launch& l = *machine.launch;
  if (machine.slots.size() <= slot) machine.slots.resize(slot + 1);
  machine.slots[slot] = std::make_unique<Cta>();
  Cta* cta = machine.slots[slot].get();
  uint32_t count = uint32_t(volume(l.block));
  cta->cluster = cluster;
  cta->slot = slot;
  cta->live = cta->thread_count = count;
  cta->threads = static_cast<Thread*>(calloc(count, sizeof(Thread)));
  cta->warps.resize((count + 31) / 32);
  uint32_t shared_bytes = kSharedReserved + l.kernel->shared_bytes;
  uint32_t align = std::max(16u, l.kernel->dynamic_align);
  if (l.dynamic_bytes) shared_bytes = (shared_bytes + align - 1) / align * align + l.dynamic_bytes;
  uint8_t* shared = shared_window() + uint64_t(slot) * kSharedStride;
  mprotect(shared, (shared_bytes + 4095) & ~size_t(4095), PROT_READ | PROT_WRITE);
  memset(shared, 0xFF, shared_bytes);  // what nobody wrote reads as NaN
  Dim3 clusters = {l.grid.x / l.cluster.x, l.grid.y / l.cluster.y, l.grid.z / l.cluster.z};
  Dim3 cid = unravel(cluster_index, clusters), in = unravel(rank, l.cluster);
  uint8_t* stacks = stack_area(slot);
  for (uint32_t i = 0; i < count; i++) {
    Thread& t = cta->threads[i];
    Warp& w = cta->warps[i / 32];
    t.warp = &w;
    t.cta = cta;
    t.params = l.params;
    t.tid = unravel(i, l.block);
    t.ntid = l.block;
    t.nctaid = l.grid;
    t.ctaid = {cid.x * l.cluster.x + in.x, cid.y * l.cluster.y + in.y, cid.z * l.cluster.z + in.z};
    t.cluster_ctaid = in;
    t.cluster_nctaid = l.cluster;
    t.clusterid = cid;
    t.nclusterid = clusters;
    t.cluster_rank = rank;
    t.lane = i % 32;
    t.warp_index = i / 32;
    t.nwarps = uint32_t(cta->warps.size());
    t.shared = (slot << kSharedStrideBits) + kSharedReserved;
    t.shared_end = shared_bytes;
    t.dynamic_bytes = l.dynamic_bytes;
    t.waits_for = -1;
    // Stacks begin at different offsets of a page, else all threads' frames fall into the same cache sets.
    prepare_stack(&t, stacks + (i + 1) * kStackBytes - (i * 320) % 16384);
  }
  for (uint32_t i = 0; i < cta->warps.size(); i++) {
    Warp& w = cta->warps[i];
    w.threads = cta->threads + 32 * i;
    w.size = std::min(32u, count - 32 * i);
    w.exited = w.size == 32 ? 0 : ~0u << w.size;
    w.ready = ~w.exited;
    w.polling = w.asking = 0;
    machine.warps.push_back(&w);
  }
}

// Starts the next cluster of the grid; false when there is none or no room.
bool start_cluster() {
  if (machine.next_cluster == machine.cluster_count) return false;
  uint32_t count = uint32_t(volume(machine.launch->cluster));
  uint32_t slot = free_slots(count);
  if (slot == kMaxSlots) return false;
  auto* cluster = new Cluster{{}, 0, 0, 0};
  for (uint32_t rank = 0; rank < count; rank++) {
    start_cta(cluster, slot + rank, rank, machine.next_cluster);
    cluster->ctas.push_back(machine.slots[slot + rank].get());
  }
  cluster->live = count * uint32_t(volume(machine.launch->block));
  machine.next_cluster++;
  machine.resident.push_back(cluster);
  return true;
}

void retire(Cluster* cluster) {
  for (Cta* cta : cluster->ctas) {
    auto gone = [cta](Warp* w) {
      return w->threads >= cta->threads && w->threads < cta->threads + cta->thread_count;
    };
    machine.warps.erase(std::remove_if(machine.warps.begin(), machine.warps.end(), gone),
                        machine.warps.end());
    for (uint32_t i = 0; i < cta->thread_count; i++) delete cta->threads[i].copies;
    free(cta->threads);
    machine.slots[cta->slot].reset();
  }
  delete cluster;
}

void retire_finished(bool all) {
  for (size_t i = machine.resident.size(); i-- > 0;) {
    if (machine.resident[i]->live && !all) continue;
    retire(machine.resident[i]);
    machine.resident.erase(machine.resident.begin() + long(i));
  }
  machine.cursor = 0;
}

void on_fault(int, siginfo_t* info, void*) {
  Thread* t = machine.current;
  if (!t) abort();
  fail(t, kIllegalAddress, "access to %p", info->si_addr);
}

// Faults of the kernel become errors of the launch.
class FaultHandler {
 public:
  FaultHandler() {
    static uint8_t stack[64 << 10];
    stack_t own = {stack, 0, sizeof stack};
    sigaltstack(&own, &old_stack_);
    struct sigaction action = {};
    action.sa_sigaction = &on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &old_segv_);
    sigaction(SIGBUS, &action, &old_bus_);
    sigaction(SIGFPE, &action, &old_fpe_);
  }
  ~FaultHandler() {
    sigaction(SIGSEGV, &old_segv_, nullptr);
    sigaction(SIGBUS, &old_bus_, nullptr);
    sigaction(SIGFPE, &old_fpe_, nullptr);
    sigaltstack(&old_stack_, nullptr);
  }

 private:
  stack_t old_stack_;
  struct sigaction old_segv_, old_bus_, old_fpe_;
};

}  // namespace

void set_order(bool is_reversed) { machine.is_reversed = is_reversed; }

// Others may have waited for it alone.
void exit_thread(Thread* t) {
  async_wait_all(t);
  bulk_commit(t);
  bulk_wait(t, 0);
  Warp* w = t->warp;
  Cta* cta = t->cta;
  Cluster* cluster = cta->cluster;
  w->exited |= 1u << t->lane;
  machine.fruitless = 0;
  for (Meeting& m : w->meetings)
    if (m.arrived && ((m.arrived | w->exited) & m.mask) == m.mask) finish(w, &m, 0);
  cta->live--;
  if (cta->live)
    for (uint32_t id = 0; id < 16; id++)
      if (is_complete(cta, cta->barriers[id])) complete_barrier(cta, id);
  cluster->live--;
  if (cluster->live == 0) {
    while (do_deferred()) continue;
    leave();  // the main stack starts the next cluster, on these stacks
  }
  if (cluster->arrived && cluster->arrived >= cluster->live) complete_cluster_barrier(cluster);
  emu_switch(&t->stack, pick_or_fail(t)->stack);
  abort();
}

int run_launch(const Launch& launch, std::string* message) {
  FaultHandler handler;
  machine.launch = &launch;
  machine.next_cluster = 0;
  machine.cluster_count = volume(launch.grid) / volume(launch.cluster);
  machine.fruitless = 0;
  machine.error = 0;
  while (!machine.error) {
    retire_finished(false);
    if (machine.resident.empty() && !start_cluster()) break;
    if (machine.is_reversed) machine.cursor = machine.warps.size() - 1;
    if (Thread* next = pick()) {
      emu_switch(&machine.main_stack, next->stack);
    } else {
      machine.error = kTimeout;
      machine.message = "no thread can go on" + where_all_wait();
    }
  }
  retire_finished(true);
  machine.deferred.clear();
  machine.current = nullptr;
  machine.launch = nullptr;
  *message = machine.message;
  return machine.error;
}

void fail(Thread* t, int code, const char* format, ...) {
  char text[1500];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  char where[300];
  snprintf(where, sizeof where, "kernel %.120s, block (%u,%u,%u), thread (%u,%u,%u), near PTX line %u: ",
           machine.launch->kernel->name, t->ctaid.x, t->ctaid.y, t->ctaid.z, t->tid.x, t->tid.y, t->tid.z,
           t->line);
  machine.message = std::string(where) + text;
  machine.error = code;
  leave();
}

void misaligned(Thread* t, uint64_t address, uint32_t bytes) {
  fail(t, kMisaligned, "access of %u bytes at 0x%llx", bytes, (unsigned long long)address);
}

void outside_shared(Thread* t, uint32_t address, uint32_t bytes) {
  fail(t, kIllegalAddress,
       "access of %u bytes at shared address 0x%x; the block has %u bytes (after %u reserved ones)", bytes,
       address, t->shared_end - kSharedReserved, kSharedReserved);
}

void check_foreign(Thread* t, uint64_t address, uint32_t bytes) {
  if (address - kSharedWindow < uint64_t(kMaxSlots) * kSharedStride) {
    shared_at(t, uint32_t(address - kSharedWindow), bytes);
    return;
  }
  uint8_t* stacks = stack_area(t->cta->slot);
  if (address - reinterpret_cast<uint64_t>(stacks) < kStackBytes * kMaxThreads) return;
  if (address - reinterpret_cast<uint64_t>(t->params) < machine.launch->kernel->param_bytes) return;
  if (is_host_memory(reinterpret_cast<const void*>(address), bytes)) return;
  fail(t, kIllegalAddress, "access of %u bytes at 0x%llx, which is no device memory", bytes,
       (unsigned long long)address);
}

void defer(std::function<void()> work) { machine.deferred.push_back(std::move(work)); }

Thread* lane_of(Warp* warp, uint32_t lane) { return &warp->threads[lane]; }

void meet(Thread* t, uint32_t mask, Act* act, void* slot) {
  Warp* w = t->warp;
  uint32_t self = 1u << t->lane;
  t->slot = slot;
  if (!(mask & self)) fail(t, kIllegalInstruction, "lane %u is not in its own mask 0x%x", t->lane, mask);
  Meeting& m = w->meetings[lowest(mask)];
  if (m.arrived == 0) {
    m.mask = mask;
    m.act = act;
  } else if (m.mask != mask || m.act != act) {
    fail(t, kLaunchFailure, "lanes of one mask (0x%x, 0x%x) are at different instructions", mask, m.mask);
  }
  m.arrived |= self;
  if (((m.arrived | w->exited) & mask) == mask)
    finish(w, &m, self);
  else
    block(t);
}

void pause(Thread* t) {
  t->warp->polling |= 1u << t->lane;
  block(t);
}

void progress() { machine.fruitless = 0; }

uint32_t active_mask(Thread* t) {
  t->warp->asking |= 1u << t->lane;
  block(t);
  return t->barrier_result;
}

void barrier_sync(Thread* t, uint32_t id, uint32_t count) {
  arrive(t, id, count, false, true);
  wait_barrier(t);
}

void barrier_arrive(Thread* t, uint32_t id, uint32_t count) { arrive(t, id, count, false, false); }

uint32_t barrier_reduce(Thread* t, uint32_t id, uint32_t count, Reduction how, bool value) {
  arrive(t, id, count, value, true);
  wait_barrier(t);
  uint32_t r = t->barrier_result;
  return how == kAnd ? r & 1 : how == kOr ? r >> 1 & 1 : r >> 2;
}

void cluster_arrive(Thread* t) {
  Cluster* cluster = t->cta->cluster;
  if (t->cluster_arrivals > cluster->phase) fail(t, kLaunchFailure, "arrived twice at the cluster's barrier");
  t->cluster_arrivals++;
  if (++cluster->arrived >= cluster->live) complete_cluster_barrier(cluster);
}

void cluster_wait(Thread* t) {
  while (t->cta->cluster->phase < t->cluster_arrivals) pause(t);
}

uint64_t global_timer() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000000000 + uint64_t(now.tv_nsec);
}

uint32_t clock32() { return uint32_t(__builtin_ia32_rdtsc()); }

}  // namespace emu
