#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "runtime/cluster/json_text.hpp"
#include "tools/troupe/command_line.hpp"
#include "tools/troupe/commands.hpp"
#include "tools/troupe/drill_matrix.hpp"
#include "tools/troupe/drill_report.hpp"
#include "tools/troupe/drill_series.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {
namespace {

struct drill_options {
  std::vector<std::string> files;
  bool matrix = false;
  bool list = false;
  std::string only;                     ///< part of a name
  std::string folder = "deploy/drills"; ///< of the matrix's spec and pages
  std::string spec;                     ///< in place of each drill's own; empty: its own
  std::uint32_t repeat = 1;
  std::uint32_t sample = 0; ///< 0: all
  std::uint64_t seed = 1;
  std::string resume;
  bool keep = false;
  bool patient = false; ///< how soon something is over is not judged
  bool json = false;
  std::optional<series_kind> series;
  std::uint32_t count = 0;
  std::uint32_t seconds = 3600;
};

/// A machine that does other things too keeps no bound, and needs longer for the whole.
void be_patient(cluster::drill& drill) {
  constexpr std::uint32_t longer = 4;
  drill.expect.detect_ms = drill.expect.over_ms = 0;
  drill.deadline_ms *= longer;
}

protocols::result<std::vector<cluster::drill>> drills_of(const drill_options& options) {
  std::vector<cluster::drill> drills;
  for (const auto& file : options.files) {
    auto drill = cluster::read_drill(file);
    if (!drill)
      return tl::unexpected(drill.error());
    drills.push_back(std::move(*drill));
  }
  if (options.matrix) {
    auto cells = matrix_shapes(options.folder, options.spec).and_then([&](const auto& shapes) {
      return matrix_drills(options.folder, shapes);
    });
    if (!cells)
      return tl::unexpected(cells.error());
    std::ranges::move(*cells, std::back_inserter(drills));
  }
  std::erase_if(drills, [&](const auto& drill) { return drill.name.find(options.only) == std::string::npos; });
  for (auto& drill : drills) {
    if (!options.spec.empty())
      drill.spec = std::filesystem::absolute(options.spec);
    if (options.patient)
      be_patient(drill);
    if (auto good = check_drill(drill); !good)
      return tl::unexpected(good.error());
  }
  if (options.sample != 0 && options.sample < drills.size()) {
    std::mt19937_64 random{options.seed};
    std::vector<cluster::drill> chosen;
    std::ranges::sample(drills, std::back_inserter(chosen), options.sample, random);
    drills = std::move(chosen);
  }
  return drills;
}

int list_matrix(const drill_options& options) {
  const auto shapes = matrix_shapes(options.folder, options.spec);
  const auto drills = shapes.and_then([&](const auto& found) { return matrix_drills(options.folder, found); });
  if (!drills)
    return complain(exit_code_of(drills.error().code), drills.error().what);
  for (const auto& drill : *drills)
    if (const auto good = check_drill(drill); !good)
      return complain(exit_code_of(good.error().code), good.error().what);
  table cells{{{"drill"}, {"expected"}}};
  for (const auto& cell : matrix_cells(*shapes))
    if (auto name = cell.name(); name.find(options.only) != std::string::npos)
      cells.add({std::move(name),
                 cell.reason.empty() ? std::string{cluster::name(cell.expect.outcome)} : "not run: " + cell.reason});
  print("{}", cells.text(palette{STDOUT_FILENO}));
  return static_cast<int>(base::exit_code::done);
}

/// Named beside --series, or the one that the folder has for it.
std::string series_spec_of(const drill_options& options) {
  if (!options.spec.empty())
    return options.spec;
  if (!options.files.empty())
    return options.files.front();
  return options.folder + (options.series == series_kind::walk ? "/walk/cluster.json" : "/cluster.json");
}

int run(const drill_options& options) {
  if (options.list)
    return list_matrix(options);
  if (options.series)
    return run_series({.kind = *options.series,
                       .spec = series_spec_of(options),
                       .pages = options.folder + "/pages.json",
                       .count = options.count,
                       .seconds = options.seconds,
                       .seed = options.seed,
                       .resume = options.resume,
                       .json = options.json});
  const auto drills = drills_of(options);
  if (!drills)
    return complain(exit_code_of(drills.error().code), drills.error().what);
  std::optional<drill_summary> summary;
  if (!options.resume.empty()) {
    auto opened = drill_summary::open(options.resume);
    if (!opened)
      return complain(exit_code_of(opened.error().code), opened.error().what);
    summary.emplace(std::move(*opened));
  }

  std::vector<drill_result> results;
  progress_line progress;
  const auto total = drills->size() * options.repeat;
  for (std::uint32_t round = 0; round < options.repeat; ++round)
    for (const auto& drill : *drills) {
      auto one = drill;
      if (options.repeat > 1)
        one.name += fmt::format(".{}", round + 1);
      if (const auto* const known = summary ? summary->find(one.name) : nullptr; known != nullptr && known->passed) {
        results.push_back(*known);
        continue;
      }
      const auto place = results.size() + 1;
      auto done = run_drill(one, options.keep ? keep_jobs::all : keep_jobs::failed, [&](std::string_view line) {
        progress.show(fmt::format("[{}/{}] {}", place, total, line));
      });
      progress.clear();
      if (!done)
        return complain(exit_code_of(done.error().code), done.error().what);
      if (summary)
        summary->add(*done);
      if (options.json) {
        print("{}\n", cluster::text_of(as_json(*done)));
      }
      results.push_back(std::move(*done));
    }
  if (!options.json)
    print_drills(results);
  const bool passed = std::ranges::all_of(results, &drill_result::passed);
  return static_cast<int>(passed ? base::exit_code::done : base::exit_code::failed);
}

} // namespace

void add_drill(CLI::App& troupe, action& chosen) {
  auto* command = troupe.add_subcommand("drill", "strike clusters with faults and judge what they do");
  auto options = std::make_shared<drill_options>();
  auto* files = command->add_option("FILE", options->files, "drills (JSON, comments allowed); with --series: its spec")
                    ->type_name("");
  auto* matrix = command->add_flag("--matrix", options->matrix,
                                   "every fault, role and phase that can exist, in clusters of six shapes");
  auto* list = command->add_flag("--list", options->list, "the cells of the matrix, and why some cannot exist");
  command
      ->add_option("--folder", options->folder,
                   "where cluster.json and pages.json of the matrix and of series lie; default: "
                   "deploy/drills")
      ->type_name("DIR");
  command->add_option("--spec", options->spec, "a cluster to strike in place of each drill's own, and of the matrix's")
      ->type_name("SPEC");
  command->add_option("--only", options->only, "those whose name has TEXT in it")->type_name("TEXT");
  command->add_option("--repeat", options->repeat, "so often each")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000).description(""));
  command->add_option("--sample", options->sample, "so many of them, chosen by --seed; default: all")
      ->type_name("N")
      ->check(whole_number());
  command->add_option("--seed", options->seed, "of --sample and --series; default: 1")
      ->type_name("N")
      ->check(whole_number());
  const std::map<std::string, series_kind> kinds{{"kills", series_kind::kills},
                                                 {"cycles", series_kind::cycles},
                                                 {"pressure", series_kind::pressure},
                                                 {"walk", series_kind::walk}};
  auto* series =
      command
          ->add_option("--series", options->series,
                       "kills: SIGKILL of any process at any time; cycles: launch, one question, drain, exit; "
                       "pressure: overload and pauses just below the bound; "
                       "walk: clients that leave, kills, pauses, slowness and overload at random, every answer "
                       "compared")
          ->type_name("kills|cycles|pressure|walk")
          ->transform(CLI::CheckedTransformer(kinds).description(""));
  command->add_option("--count", options->count, "trials of a series; default: 1000 kills, 2000 cycles")
      ->type_name("N");
  command->add_option("--seconds,--for", options->seconds, "of pressure, of all walks together; default: 3600")
      ->type_name("S");
  command
      ->add_option("--resume", options->resume,
                   "a summary: what has passed there is not run again; walks are added to it")
      ->type_name("SUMMARY");
  command->add_flag("--patient", options->patient, "judge what happens and not how soon: for a loaded machine");
  command->add_flag("--keep", options->keep, "keep logs and flight records of drills that passed too");
  command->add_flag("--json", options->json, "one JSON object a drill, as each ends");
  command->footer(R"(Examples:
  troupe drill deploy/drills/prefill-worker-killed.json --repeat 10
  troupe drill --matrix --sample 20 --seed 7
  troupe drill --matrix --only kill-decode --repeat 20
  troupe drill --matrix --resume matrix.jsonl --json
  troupe drill --matrix --sample 24 --spec deploy/drills/cuda/cluster.json
  troupe drill --series kills --count 100 --seed 7
  troupe drill --series walk deploy/drills/walk/fabric.json --for 7200 --resume walk.jsonl

Exit codes: 0 all passed, 1 some did not, 2 usage, 3 a drill or its spec cannot be used.)");
  command->callback([=, &chosen] {
    if (files->empty() && matrix->empty() && list->empty() && series->empty())
      throw CLI::RequiredError("FILE, --matrix or --series");
    chosen = [options] { return run(*options); };
  });
}

} // namespace troupe::tools
