// Chains: kernels called in turn on strips of rows, so that what one writes is in cache when the next reads it.
#pragma once
#include <string.h>

#include "bolt/module.h"

enum { kBoltLinks = 8, kBoltOperands = 16 };  // the most there may be

// Where an operand lies: in memory, or among the rows that the chain keeps of what link `made_by` writes.
struct BoltChainOperand {
  int64_t image, row;  // bytes between images, rows
  int32_t made_by;     // -1: in memory
};

struct BoltLink {
  BoltKernel kernel;
  const BoltChainOperand* operands;
  int32_t operand_count;
  int32_t int_count;
  const uint8_t* of_input;              // for each run-time dim, whether it counts rows of the input
  int64_t quantum;                      // what a row counts as in them
  int64_t rows, input_rows;             // of an image
  int64_t stride, before, extent;       // output row y reads input rows [y * stride - before, ... + extent)
  // The rows that are kept of the output, in bytes: their place, their distance, the border left of the pixels, the
  // pixels; how many rows there is room for; each byte of the border, and whether it lies between pixels, too.
  int64_t at, pitch, lead, width, most;
  int32_t border, is_sparse;
};

struct BoltChain {
  const BoltLink* links;
  int32_t count;
  int64_t images, strip;  // rows of the last link's output at a time
  int64_t bytes;          // of the kept rows; the kernels' scratch follows
};

struct BoltChainCall {
  const BoltChain* chain;
  char* const* const* addresses;  // for each link, of each operand: element (0, ..., 0) of the first image
  char* scratch;
  int64_t scratch_bytes;
  int64_t parts;
};

// The rows of one link's output that are in use: [first, end), the first of them at the start of its place.
struct BoltStrip {
  int64_t first, end;
};

// Sets the border left and right of the pixels: kernels write between them only.
static inline void bolt_chain_clear(const BoltLink& link, char* place) {
  if (link.is_sparse) {
    memset(place, link.border, static_cast<size_t>(link.most * link.pitch));
    return;
  }
  const int64_t right = link.pitch - link.lead - link.width;
  for (int64_t row = 0; row < link.most; row++, place += link.pitch) {
    memset(place, link.border, static_cast<size_t>(link.lead));
    memset(place + link.lead + link.width, link.border, static_cast<size_t>(right));
  }
}

// Moves the rows that are needed again to the front, and sets those outside the image. Returns the first row to
// compute.
static inline int64_t bolt_chain_slide(const BoltLink& link, const BoltStrip& before, const BoltStrip& strip,
                                       char* place) {
  int64_t from = strip.first;
  if (before.end > strip.first) {
    const int64_t gone = strip.first - before.first;
    if (gone > 0)
      memmove(place, place + gone * link.pitch, static_cast<size_t>((before.end - strip.first) * link.pitch));
    from = before.end;
  }
  for (int64_t row = from; row < strip.end; row++) {
    if (row < 0 || row >= link.rows)
      memset(place + (row - strip.first) * link.pitch, link.border, static_cast<size_t>(link.pitch));
  }
  return from;
}

static inline void bolt_chain_kernel(const BoltChainCall* call, int32_t index, char* own, const BoltStrip* strips,
                                     int64_t image, int64_t first, int64_t end) {
  const BoltChain& chain = *call->chain;
  const BoltLink& link = chain.links[index];
  void* p[kBoltOperands];
  int64_t d[kBoltOperands];  // of each at most the rows are known at run time only
  for (int32_t i = 0; i < link.operand_count; i++) {
    const BoltChainOperand& operand = link.operands[i];
    const int64_t row = i == 1 ? first * link.stride : first;
    if (operand.made_by < 0) {
      p[i] = call->addresses[index][i] + image * operand.image + row * operand.row;
    } else {
      const BoltLink& maker = chain.links[operand.made_by];
      p[i] = own + maker.at + maker.lead + (row - strips[operand.made_by].first) * maker.pitch;
    }
  }
  const int64_t known = index > 0 ? bolt_min(strips[index - 1].end, link.input_rows) : link.input_rows;
  for (int32_t i = 0; i < link.int_count; i++)
    d[i] = (link.of_input[i] ? known - first * link.stride : end - first) * link.quantum;
  link.kernel(p, d, own + chain.bytes, 0, 1);
}

// Rows [y, end) of the last link's output; `strips` says what is kept of the rows above.
static inline void bolt_chain_strip(const BoltChainCall* call, char* own, BoltStrip* strips, int64_t image, int64_t y,
                                    int64_t end) {
  const BoltChain& chain = *call->chain;
  BoltStrip before[kBoltLinks];
  memcpy(before, strips, sizeof before);
  strips[chain.count - 1] = {y, end};
  for (int32_t i = chain.count - 1; i > 0; i--) {
    const BoltLink& link = chain.links[i];
    const int64_t first = bolt_max(strips[i].first, 0), last = bolt_min(strips[i].end, link.rows) - 1;
    strips[i - 1] = {first * link.stride - link.before, last * link.stride - link.before + link.extent};
  }
  for (int32_t i = 0; i < chain.count; i++) {
    const BoltLink& link = chain.links[i];
    const int64_t from = i + 1 < chain.count ? bolt_chain_slide(link, before[i], strips[i], own + link.at) : y;
    const int64_t first = bolt_max(from, 0), last = bolt_min(strips[i].end, link.rows);
    if (first < last) bolt_chain_kernel(call, i, own, strips, image, first, last);
  }
}

// Share `part` of the rows of all images.
static inline void bolt_chain_part(void* arg, size_t part) {
  const BoltChainCall* call = static_cast<const BoltChainCall*>(arg);
  const BoltChain& chain = *call->chain;
  char* const own = call->scratch + static_cast<int64_t>(part) * call->scratch_bytes;
  const int64_t rows = chain.links[chain.count - 1].rows, all = chain.images * rows;
  const int64_t end = (static_cast<int64_t>(part) + 1) * all / call->parts;
  for (int32_t i = 0; i + 1 < chain.count; i++) bolt_chain_clear(chain.links[i], own + chain.links[i].at);
  for (int64_t at = static_cast<int64_t>(part) * all / call->parts; at < end;) {
    const int64_t image = at / rows, top = at % rows, height = bolt_min(rows - top, end - at);
    BoltStrip strips[kBoltLinks];
    for (BoltStrip& strip : strips) strip = {INT64_MIN, INT64_MIN};
    for (int64_t y = top; y < top + height; y += chain.strip)
      bolt_chain_strip(call, own, strips, image, y, bolt_min(y + chain.strip, top + height));
    at += height;
  }
}

// Runs a chain: serially, or in as many shares as there are threads.
static inline void bolt_chain(const BoltContext* context, const BoltChain* chain, char* const* const* addresses,
                              char* scratch, int64_t scratch_bytes, bool parallel) {
  const int64_t parts = parallel && context->threads > 1 ? context->threads : 1;
  BoltChainCall call = {chain, addresses, scratch, scratch_bytes, parts};
  if (parts == 1)
    bolt_chain_part(&call, 0);
  else
    context->parallel_for(context->host, bolt_chain_part, static_cast<size_t>(parts), &call);
}
