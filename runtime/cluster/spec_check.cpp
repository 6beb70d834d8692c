#include "runtime/cluster/spec_check.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "gpu/models/text_io.hpp"
#include "protocols/cluster/program.hpp"

namespace troupe::cluster {

namespace {

std::vector<std::string_view> roles_without_tower(const protocols::program& program) {
  std::vector<std::string_view> names;
  for (const auto& row : program.roles)
    if (!row.loads.tower)
      names.push_back(row.name);
  return names;
}

} // namespace

protocols::result<model_check> check_model(const loaded_spec& loaded) {
  const auto& spec = loaded.spec;
  if (spec.model_path.empty())
    return model_check{};

  const auto facts = gpu::models::read_facts(spec.model_path);
  if (!facts)
    return protocols::fail(protocols::fault::config_invalid,
                           fmt::format("{}: {}", loaded.where("model.path"), facts.error().what));

  // Tables only: names, types, shapes and bounds of the weights are checked before a process is started for them.
  if (const auto folder = gpu::models::open_folder(spec.model_path); !folder)
    return protocols::fail(protocols::fault::config_invalid,
                           fmt::format("{}: {}", loaded.where("model.path"), folder.error().what));
  const auto prompts = gpu::models::tokenizer::open(spec.model_path).and_then([&](auto words) {
    return gpu::models::prompt_builder::open(std::move(words), spec.model_path, *facts);
  });
  if (!prompts)
    return protocols::fail(protocols::fault::config_invalid,
                           fmt::format("{}: {}", loaded.where("model.path"), prompts.error().what));

  std::vector<std::string> problems;
  for (const auto& pool : spec.pools) {
    const auto& program = *protocols::find_program(spec.program);
    const auto& row = program.row(pool.role);
    if (!row.computes)
      continue;
    const auto layout = gpu::models::check_layout(*facts, row.loads, pool.tensor_parallel, pool.pipeline_parallel);
    if (layout)
      continue;
    auto problem = layout.error().what;
    if (row.loads.tower && !facts->has_vision)
      problem += fmt::format(", which ranks of role {} load; valid here: pools of role {}", row.name,
                             fmt::join(roles_without_tower(program), ", "));
    problems.push_back(fmt::format("{}: pools.{}: {}", loaded.where("pools." + pool.name), pool.name, problem));
  }
  if (!problems.empty())
    return protocols::fail(protocols::fault::config_invalid, fmt::format("{}", fmt::join(problems, "\n")));

  model_check checked{*facts, {}};
  if (spec.limits.kv_tokens_max < facts->context_max)
    checked.notes.push_back(fmt::format("limits.kv_tokens_max {} is below the model's context of {}: a longer request "
                                        "is refused",
                                        spec.limits.kv_tokens_max, facts->context_max));
  if (facts->has_vision && spec.limits.kv_tokens_max < facts->picture_tokens_max())
    checked.notes.push_back(fmt::format("limits.kv_tokens_max {} is below the {} tokens of the largest picture",
                                        spec.limits.kv_tokens_max, facts->picture_tokens_max()));
  return checked;
}

} // namespace troupe::cluster
