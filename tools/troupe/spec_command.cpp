#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/cluster/json_text.hpp"
#include "runtime/cluster/spec_explain.hpp"
#include "runtime/cluster/spec_schema.hpp"
#include "tools/troupe/checked_spec.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

using nlohmann::ordered_json;

struct spec_options {
  std::string file;
  bool json = false;
  bool dot = false;
};

ordered_json lines_of(std::string_view text) {
  auto lines = ordered_json::array();
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

int validate(const spec_options& options) {
  const auto checked = check_spec(options.file);
  if (!checked) {
    if (options.json)
      print("{}\n",
            cluster::text_of({{"file", options.file}, {"valid", false}, {"problems", lines_of(checked.error().what)}}));
    return complain(exit_code_of(checked.error().code), checked.error().what);
  }
  const auto& loaded = checked->loaded;
  if (options.json) {
    print("{}\n", cluster::text_of({{"file", options.file},
                                    {"valid", true},
                                    {"name", loaded.spec.name},
                                    {"ranks", checked->plan.ranks.size()},
                                    {"digest", loaded.digest},
                                    {"notes", checked->model.notes}}));
    return static_cast<int>(base::exit_code::done);
  }
  print("{}: valid; {} ranks in {} pools, digest {}\n", options.file, checked->plan.ranks.size(),
        loaded.spec.pools.size(), loaded.digest);
  for (const auto& note : checked->model.notes)
    print("note: {}\n", note);
  return static_cast<int>(base::exit_code::done);
}

ordered_json as_json(const checked_spec& checked) {
  auto ranks = ordered_json::array();
  for (const auto& rank : checked.plan.ranks)
    ranks.push_back({{"rank", rank.id.value},
                     {"label", rank.label},
                     {"role", name(rank.role)},
                     {"pool", rank.pool},
                     {"cell", rank.cell_in_pool},
                     {"stage", rank.stage},
                     {"mesh_rank", rank.mesh_rank}});
  auto groups = ordered_json::array();
  for (const auto& group : checked.plan.groups) {
    auto members = ordered_json::array();
    for (const auto member : group.members)
      members.push_back(member.value);
    groups.push_back({{"group", group.id.value}, {"name", group.name}, {"members", members}});
  }
  return {{"digest", checked.loaded.digest},
          {"spec", ordered_json::parse(checked.loaded.effective_json)},
          {"ranks", ranks},
          {"groups", groups}};
}

int explain(const spec_options& options) {
  const auto checked = check_spec(options.file);
  if (!checked)
    return complain(exit_code_of(checked.error().code), checked.error().what);
  const auto& spec = checked->loaded.spec;
  if (options.json)
    print("{}\n", cluster::text_of(as_json(*checked), 2));
  else if (options.dot)
    print("{}", cluster::explain_dot(spec, checked->plan));
  else
    print("{}\n{}", cluster::explain_values(checked->loaded), cluster::explain_plan(spec, checked->plan));
  return static_cast<int>(base::exit_code::done);
}

CLI::App* add_file_command(CLI::App& spec, const char* name, const char* what, spec_options& options) {
  auto* command = spec.add_subcommand(name, what);
  command->add_option("SPEC", options.file, "a cluster spec (JSON, comments allowed)")->required()->type_name("");
  return command;
}

} // namespace

void add_spec(CLI::App& troupe, action& chosen) {
  auto* spec = troupe.add_subcommand("spec", "check, explain or describe cluster specs");
  spec->require_subcommand(1);
  spec->footer(R"(Examples:
  troupe spec validate deploy/specs/reader.json
  troupe spec explain deploy/specs/reader.json --dot | dot -Tsvg > reader.svg
  troupe spec schema > troupe.schema.json)");
  auto options = std::make_shared<spec_options>();

  auto* validating =
      add_file_command(*spec, "validate", "say what is wrong with a spec, its model and its layout", *options);
  validating->add_flag("--json", options->json, "one JSON object");
  validating->callback([options, &chosen] { chosen = [options] { return validate(*options); }; });

  auto* explaining =
      add_file_command(*spec, "explain", "every value and where it came from; the ranks, groups and lanes", *options);
  auto* json = explaining->add_flag("--json", options->json, "effective spec, ranks and groups as one JSON object");
  explaining->add_flag("--dot", options->dot, "the cluster as a Graphviz graph")->excludes(json);
  explaining->callback([options, &chosen] { chosen = [options] { return explain(*options); }; });

  auto* schema = spec->add_subcommand("schema", "JSON Schema of a cluster spec, for editors");
  schema->callback([&chosen] {
    chosen = [] {
      print("{}\n", cluster::spec_schema());
      return static_cast<int>(base::exit_code::done);
    };
  });
}

} // namespace troupe::tools
