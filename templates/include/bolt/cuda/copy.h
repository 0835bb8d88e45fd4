// Moving packs of elements, as they are or from one float type to another.
#pragma once
#include "bolt/cuda/access.h"

// How an element is changed on its way.
template <class T>
struct Same {
  BOLT_DEVICE T convert(T x) { return x; }
};
template <class To, class From>
struct Converted {
  BOLT_DEVICE To convert(From x) { return Element<To>::from_float(Element<From>::to_float(x)); }
};

// N elements at p, of which n exist.
template <int N, class T>
BOLT_DEVICE void load_upto(T* elements, const T* p, int n) {
  if (n >= N) {
    load_pack<N>(elements, p);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; i++) elements[i] = i < n ? p[i] : T();
}
template <int N, class T>
BOLT_DEVICE void store_upto(T* p, const T* elements, int n) {
  if (n >= N) {
    store_pack<N>(p, elements);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; i++) {
    if (i < n) p[i] = elements[i];
  }
}

// N neighbours of y from N neighbours of x, of which n exist.
template <int N, class How, class To, class From>
BOLT_DEVICE void move_pack(To* y, const From* x, int n) {
  From from[N];
  To to[N];
  load_upto<N>(from, x, n);
#pragma unroll
  for (int i = 0; i < N; i++) to[i] = How::convert(from[i]);
  store_upto<N>(y, to, n);
}

// N neighbours of y from one element.
template <int N, class To>
BOLT_DEVICE void spread_pack(To* y, To value, int n) {
  To to[N];
#pragma unroll
  for (int i = 0; i < N; i++) to[i] = value;
  store_upto<N>(y, to, n);
}

// COUNT elements between any strides; all are loaded before the first is stored, so that the loads overlap.
template <int COUNT, class How, class Index, class To, class From>
BOLT_DEVICE void move_few(To* y, Index y_step, const From* x, Index x_step) {
  From from[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; i++) from[i] = x[i * x_step];
#pragma unroll
  for (int i = 0; i < COUNT; i++) y[i * y_step] = How::convert(from[i]);
}
