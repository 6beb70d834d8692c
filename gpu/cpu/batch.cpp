#include "gpu/cpu/batch.hpp"

#include <algorithm>
#include <cmath>

#include "gpu/choice.hpp"

namespace troupe::gpu::cpu {

void place_rows(const batch_rows& rows, std::int64_t block_tokens, const tensor_view& frequencies,
                const paged_tokens& where, const tensor_view& cos, const tensor_view& sin) {
  const std::int64_t half = frequencies.shape(0);
  for (std::int64_t row = 0; row < where.context.shape(0); ++row) {
    const std::int32_t context = rows.context.i32()[row];
    const bool goes = context >= 0 && context < rows.capacity.i32()[row];
    const std::int32_t* const blocks = rows.blocks.i32() + row * rows.blocks.stride(0);
    where.context.i32()[row] = goes ? context : -1;
    where.slots.i32()[row] =
        goes ? static_cast<std::int32_t>(blocks[context / block_tokens] * block_tokens + context % block_tokens) : -1;
    for (std::int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(context + rows.shift.i32()[row]) * frequencies.f32()[i];
      cos.f32()[row * cos.stride(0) + i] = std::cos(angle);
      sin.f32()[row * sin.stride(0) + i] = std::sin(angle);
    }
  }
}

void sample(const tensor_view& logits, const batch_rows& rows, const tensor_view& chosen) {
  const std::int64_t vocabulary = logits.shape(1);
  for (std::int64_t row = 0; row < logits.shape(0); ++row) {
    const auto half = [&](std::int64_t which) {
      return std::uint64_t{static_cast<std::uint32_t>(rows.seed.i32()[which * rows.seed.stride(0) + row])};
    };
    choice_options how{rows.temperature.f32()[row], rows.top_p.f32()[row], half(0) | half(1) << 32};
    std::int32_t* told = nullptr;
    const auto& rules = rows.rules;
    if (const std::int32_t place = rules.place ? rules.place.i32()[row] : -1; place >= 0) {
      how.record = rules.records.i32() + place * rules.records.stride(0);
      how.marks = {rules.marks.i32() + place * rules.marks.stride(0), static_cast<std::size_t>(vocabulary)};
      told = rules.told.i32() + *rules.turn.i32() % rules.told.shape(0) * rules.told.stride(0) +
             place * rules.told.stride(1);
    }
    chosen.i32()[row] = choose({logits.f32() + row * logits.stride(0), static_cast<std::size_t>(vocabulary)}, how,
                               static_cast<std::uint64_t>(rows.answered.i32()[row]), told);
  }
}

void advance_rows(const batch_rows& rows, const tensor_view& context, const tensor_view& chosen,
                  const tensor_view& turn, const tensor_view& told) {
  std::int32_t* const tell = told.i32() + *turn.i32() % told.shape(0) * told.stride(0);
  ++*turn.i32();
  for (std::int64_t row = 0; row < chosen.shape(0); ++row) {
    tell[row] = -1;
    if (context.i32()[row] < 0)
      continue;
    tell[row] = chosen.i32()[row];
    rows.ids.i32()[row] =
        std::max(tell[row], 0); // what is not finite is told, and the row goes on until it is taken out
    ++rows.context.i32()[row];
    ++rows.answered.i32()[row];
    const auto& rules = rows.rules;
    if (const std::int32_t place = rules.place ? rules.place.i32()[row] : -1; place >= 0)
      rules.marks.i32()[place * rules.marks.stride(0) + rows.ids.i32()[row]] += mark_answered;
  }
}

} // namespace troupe::gpu::cpu
