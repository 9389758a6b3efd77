// Part of vector_loops_body.h: the loops over elements and rows.

void widen(int64_t n, const uint16_t* x, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = float_of_bf16(x[i]);
}

void narrow(int64_t n, const float* x, uint16_t* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = bf16_of_float(x[i]);
}

void add(int64_t n, const float* a, const float* b, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

void scale(int64_t n, const float* x, float factor, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = factor * x[i];
}

void multiply(int64_t n, const float* a, const float* b, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}

void add_scaled(int64_t n, float factor, const float* x, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

void rotate(int64_t n, const float* x, const float* table, float sign, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float first = x[i], second = x[n + i], sine = sign * table[n + i];
    y[i] = first * table[i] - second * sine;
    y[n + i] = second * table[i] + first * sine;
  }
}

float dot(int64_t n, const float* a, const float* b) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

float dot3(int64_t n, const float* a, const float* b, const float* c) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i] * c[i];
  return sum;
}

float sum_of_squares(int64_t n, const float* x) { return dot(n, x, x); }

double sum_of_squares_f64(int64_t n, const float* x) {
  // Four sums side by side: one alone waits for its own last addition.
  const int64_t quarter = n / 4;
  const float *second = x + quarter, *third = second + quarter, *fourth = third + quarter;
  const auto square = [](float value) {
    return static_cast<double>(value) * static_cast<double>(value);
  };
  double sum1 = 0.0, sum2 = 0.0, sum3 = 0.0, sum4 = 0.0;
#pragma omp simd reduction(+ : sum1, sum2, sum3, sum4)
  for (int64_t i = 0; i < quarter; ++i) {
    sum1 += square(x[i]);
    sum2 += square(second[i]);
    sum3 += square(third[i]);
    sum4 += square(fourth[i]);
  }
  for (int64_t i = 4 * quarter; i < n; ++i) sum1 += square(x[i]);
  return (sum1 + sum2) + (sum3 + sum4);
}

int64_t add_to_ordered(int64_t n, const float* x, float limit, int64_t* sums) {
  constexpr double kRounder = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded
  int64_t refused = 0;
#pragma omp simd reduction(+ : refused)
  for (int64_t i = 0; i < n; ++i) {
    const bool fits = x[i] < limit && -x[i] < limit;  // not so for a NaN
    const double scaled = fits ? static_cast<double>(x[i]) * 4503599627370496.0 : 0.0;
    // From 2^24 on a float times 2^52 is an integer.
    const bool small = scaled < 16777216.0 && -scaled < 16777216.0;
    const double rounded = small ? (scaled + kRounder) - kRounder : scaled;
    sums[i] += static_cast<int64_t>(rounded);
    refused += fits ? 0 : 1;
  }
  return refused;
}

// In parts, so that each sum is read before a result takes its place: the compiler may not turn
// around reads and writes of different types.
void of_ordered(int64_t n, const int64_t* sums, float* y) {
  constexpr int64_t kPart = 64;
  int64_t part[kPart];
  for (int64_t begin = 0; begin < n; begin += kPart) {
    const int64_t count = n - begin < kPart ? n - begin : kPart;
    float results[kPart];
    __builtin_memcpy(part, sums + begin, static_cast<size_t>(count) * sizeof(int64_t));
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      results[i] = static_cast<float>(static_cast<double>(part[i]) * 2.220446049250313e-16);
    }
    __builtin_memcpy(y + begin, results, static_cast<size_t>(count) * sizeof(float));
  }
}

void exp_loop(int64_t n, const float* x, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = exp_of(x[i]);
}

void activation(int kind, int64_t n, const float* x, float* y) {
  switch (kind) {
    case kLoopRelu:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] < 0.0f ? 0.0f : x[i];
      break;
    case kLoopGelu:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = gelu_of(x[i]);
      break;
    case kLoopSilu:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] * sigmoid_of(x[i]);
      break;
    case kLoopRelu2:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = x[i] < 0.0f ? 0.0f : x[i] * x[i];
      break;
    case kLoopGeluTanh:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = gelu_tanh_of(x[i]);
      break;
    default:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) y[i] = x[i];
  }
}

void activation_backward(int kind, int64_t n, const float* x, const float* dy, float* dx) {
  switch (kind) {
    case kLoopRelu:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dx[i] = x[i] > 0.0f ? dy[i] : 0.0f;
      break;
    case kLoopGelu:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * gelu_slope_of(x[i]);
      break;
    case kLoopSilu:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) {
        const float s = sigmoid_of(x[i]);
        dx[i] = dy[i] * (s + x[i] * s * (1.0f - s));
      }
      break;
    case kLoopRelu2:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dx[i] = x[i] > 0.0f ? dy[i] * 2.0f * x[i] : 0.0f;
      break;
    case kLoopGeluTanh:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * gelu_tanh_slope_of(x[i]);
      break;
    default:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) dx[i] = dy[i];
  }
}

void scale_by_row(int64_t n, const float* x, float factor, const float* w, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor * w[i];
}

void rms_norm_backward(int64_t n, const float* x, const float* w, const float* dy,
                       float inverse_rms, float mean_term, bool accumulate, float* dx, float* dw) {
  // First the weight's part: dx may be dy.
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) dw[i] += dy[i] * (x[i] * inverse_rms);
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i] += inverse_rms * w[i] * dy[i] - mean_term * x[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i] = inverse_rms * w[i] * dy[i] - mean_term * x[i];
  }
}

float exp_sum(int64_t n, const float* x, float* y, float* max) {
  float largest = -__builtin_inff();
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  float sum = 0.0f;
  if (y) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      const float e = exp_of_small(x[i] - largest);
      y[i] = e;
      sum += e;
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += exp_of_small(x[i] - largest);
  }
  *max = largest;
  return sum;
}

float softmax(int64_t n, const float* x, float* p, float* max) {
  const float sum = exp_sum(n, x, p, max);
  scale(n, p, 1.0f / sum, p);
  return sum;
}

void softmax_backward(int64_t n, const float* p, const float* dp, bool accumulate, float* dx) {
  const float mean = dot(n, p, dp);
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i] += p[i] * (dp[i] - mean);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i] = p[i] * (dp[i] - mean);
  }
}

enum class Segments { kIgnored, kReal, kWanted };

// Scores from the dot products of visible keys, -infinity where segments don't fit. Returns the
// larger of `largest` and the largest score.
template <bool kBias, Segments kSegments>
float visible_scores(const LoopScores* row, float* dots, float largest) {
  const int32_t* segment = row->visible.segment;
  const int32_t wanted = row->visible.wanted;
  const float* bias = row->bias;
  const float scale = row->scale;
#pragma omp simd reduction(max : largest)
  for (int64_t i = row->visible.begin; i < row->visible.end; ++i) {
    float score = kBias ? scale * dots[i] + bias[i] : scale * dots[i];
    if (kSegments == Segments::kReal) score = segment[i] != 0 ? score : -__builtin_inff();
    if (kSegments == Segments::kWanted) score = segment[i] == wanted ? score : -__builtin_inff();
    dots[i] = score;
    largest = score > largest ? score : largest;
  }
  return largest;
}

template <bool kBias>
float visible_scores(const LoopScores* row, float* dots, float largest) {
  if (!row->visible.segment) return visible_scores<kBias, Segments::kIgnored>(row, dots, largest);
  return row->visible.same_segment ? visible_scores<kBias, Segments::kWanted>(row, dots, largest)
                                   : visible_scores<kBias, Segments::kReal>(row, dots, largest);
}

// Scores from dot products, -infinity where invisible; the maximum as above.
float attention_scores(int64_t n, float* dots, const LoopScores* row, float largest) {
  const int64_t begin = row->visible.begin, end = row->visible.end;
  for (int64_t i = 0; i < begin; ++i) dots[i] = -__builtin_inff();
  for (int64_t i = end; i < n; ++i) dots[i] = -__builtin_inff();
  if (row->visible.sees_nothing) {
    for (int64_t i = begin; i < end; ++i) dots[i] = 0.0f;
    return largest > 0.0f ? largest : 0.0f;
  }
  return row->bias ? visible_scores<true>(row, dots, largest)
                   : visible_scores<false>(row, dots, largest);
}

float attention_weights(int64_t n, float* dots, const LoopScores* row, float* max) {
  const float largest = attention_scores(n, dots, row, *max);
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float e = exp_of_small(dots[i] - largest);
    dots[i] = e;
    sum += e;
  }
  *max = largest;
  return sum;
}

void attention_gradient(int64_t n, float* dots, float* dp, const LoopScores* row,
                        const LoopScoreGradient* gradient) {
  const LoopScoreGradient g = *gradient;
  attention_scores(n, dots, row, 0.0f);
  if (g.uniform) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const float p = exp_of_small(dots[i] - g.log_sum_exp);
      const float factor = g.uniform[i] < g.rate ? 0.0f : g.keep;
      dp[i] = p * (factor * dp[i] - g.mean);
      dots[i] = p * factor;
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const float p = exp_of_small(dots[i] - g.log_sum_exp);
      dp[i] = p * (dp[i] - g.mean);
      dots[i] = p;
    }
  }
  if (row->visible.sees_nothing) {  // its scores are constants
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dp[i] = 0.0f;
    return;
  }
  if (g.dbias) {
#pragma omp simd
    for (int64_t i = row->visible.begin; i < row->visible.end; ++i) g.dbias[i] += dp[i];
  }
  if (row->scale != 1.0f) scale(n, dp, row->scale, dp);
}

// Philox4x32-10 of base/random.h, one counter per lane.
typedef uint32_t Words __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES)));
typedef int32_t SignedWords __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES)));
typedef uint64_t WordPairs __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES)));

typedef long long SignedPairs __attribute__((vector_size(SWITCHYARD_VECTOR_BYTES)));

struct WideProduct {
  Words high, low;
};

inline WideProduct multiply_wide(Words a, uint32_t factor) {
  const Words factors = factor - Words{};
  // The instruction multiplies even lanes only, and the compiler doesn't find it by itself.
  const WordPairs even = (WordPairs)SWITCHYARD_MULTIPLY_EVEN(a, factors);
  const WordPairs odd = (WordPairs)SWITCHYARD_MULTIPLY_EVEN((WordPairs)a >> 32, factors);
  const uint64_t low_half = 0xFFFFFFFFu;
  return {(Words)((even >> 32) | (odd & ~low_half)), (Words)((even & low_half) | (odd << 32))};
}

void uniform(const LoopRandom* random, int64_t n, float* out) {
  Words lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = static_cast<uint32_t>(i);
  for (int64_t begin = 0; begin < n; begin += 4 * kLanes, out += 4 * kLanes) {
    Words c0 = lane + (random->first_block + static_cast<uint32_t>(begin / 4));
    Words c1 = random->token - Words{}, c2 = random->what - Words{}, c3 = random->step - Words{};
    uint32_t k0 = random->key_low, k1 = random->key_high;
    for (int round = 0; round < 10; ++round) {
      const WideProduct p0 = multiply_wide(c0, 0xD2511F53u), p1 = multiply_wide(c2, 0xCD9E8D57u);
      c0 = p1.high ^ c1 ^ k0;
      c2 = p0.high ^ c3 ^ k1;
      c1 = p1.low;
      c3 = p0.low;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    uint32_t words[4][kLanes];
    __builtin_memcpy(words[0], &c0, sizeof c0);
    __builtin_memcpy(words[1], &c1, sizeof c1);
    __builtin_memcpy(words[2], &c2, sizeof c2);
    __builtin_memcpy(words[3], &c3, sizeof c3);
    for (int i = 0; i < kLanes; ++i) {
      for (int word = 0; word < 4; ++word) {
        out[4 * i + word] =
            static_cast<float>(static_cast<int32_t>(words[word][i] >> 8)) * 0x1p-24f;
      }
    }
  }
}

void dropout(int64_t n, const float* x, const float* u, float rate, float keep, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = u[i] < rate ? 0.0f : x[i] * keep;
}

// In two loops, so that the compiler can't fuse the product and the sum into one rounding: the
// result is the same to the last bit on every instruction set.
void jitter(int64_t n, const float* x, float* u, float epsilon, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) u[i] = epsilon * (2.0f * u[i] - 1.0f);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * (1.0f + u[i]);
}

void adamw(int64_t n, const LoopAdamW* step, const float* gradient, float* weight, float* first,
           float* second) {
  const LoopAdamW s = *step;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * s.gradient_scale;
    const float m = s.beta1 * first[i] + s.rest1 * g;
    const float v = s.beta2 * second[i] + s.rest2 * g * g;
    first[i] = m;
    second[i] = v;
    const float denominator = __builtin_sqrtf(v) * s.inverse_root_correct + s.epsilon;
    weight[i] -= s.step_size * (m / denominator) + s.decay * weight[i];
  }
}

void sgd(int64_t n, const LoopSgd* step, const float* gradient, float* weight, float* velocity) {
  const LoopSgd s = *step;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * s.gradient_scale;
    const float v = s.momentum * velocity[i] + g;
    velocity[i] = v;
    const float direction = s.from_gradient * g + s.from_velocity * v;
    weight[i] -= s.step_size * direction + s.decay * weight[i];
  }
}

void add_squares(int64_t n, const float* x, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i] * x[i];
}

void decay_squares(int64_t n, const float* x, float scale, float epsilon, float decay, float rest,
                   float* v) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = scale * x[i];
    v[i] = decay * v[i] + rest * (scaled * scaled + epsilon);
  }
}

void divide_by_root(int64_t n, const float* x, const float* v, float factor, float* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = factor * x[i] / __builtin_sqrtf(v[i]);
}

void decayed_step(int64_t n, float factor, const float* x, float decay, float* weight) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) weight[i] -= factor * x[i] + decay * weight[i];
}
