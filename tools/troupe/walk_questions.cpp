#include "tools/troupe/walk_questions.hpp"

#include <signal.h>

#include <array>
#include <filesystem>
#include <random>
#include <set>

#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "tools/troupe/text.hpp"

namespace troupe::tools {

using namespace protocols;

namespace {

constexpr std::size_t pictures_most = 3;
constexpr std::array answer_lengths{6U, 24U, 48U};

/// Whatever picture lies where those of the pages do, by name.
std::vector<std::filesystem::path> pictures_beside(const std::vector<cluster::drill_page>& pages) {
  std::set<std::filesystem::path> found;
  std::error_code problem;
  for (const auto& page : pages)
    for (const auto& entry : std::filesystem::directory_iterator{page.image.parent_path(), problem})
      if (const auto kind = entry.path().extension(); kind == ".png" || kind == ".jpg")
        found.insert(entry.path());
  return {found.begin(), found.end()};
}

/// One picture is the rule, none and several are drawn too.
std::size_t picture_count(std::mt19937_64& random) {
  const auto drawn = random() % 10;
  return drawn == 0 ? 0 : drawn < 7 ? 1 : 2 + random() % (pictures_most - 1);
}

class answer_student {
public:
  answer_student(const series_setup& setup, series_job& job, std::vector<known_question> questions)
      : setup_(setup), job_(job), questions_(std::move(questions)) {}

  result<std::vector<known_question>> run(const std::function<void(std::string_view)>& progress) {
    if (!job_.until(job_.launched() + hang_deadline, [&] { return is_ready() || has_ended(); }) || has_ended())
      return fail(fault::peer_gone, "the cluster that is to be asked alone was not ready: " + last_line());
    auto front = embed::client::connect(job_.running().file("front.sock").string(), setup_.plan.front().value,
                                        base::now() + hang_deadline);
    if (!front)
      return tl::unexpected(failure_of(front.error()));
    std::vector<known_question> known;
    for (auto& question : questions_) {
      progress(fmt::format("asking alone: {} of {}", known.size() + 1, questions_.size()));
      auto taken = ask(*front, question);
      if (!taken)
        return tl::unexpected(taken.error());
      if (*taken)
        known.push_back(std::move(question));
    }
    if (known.empty())
      return fail(fault::config_invalid, "the cluster answers none of the questions");
    return known;
  }

private:
  bool is_ready() { return job_.running().is_ready(); }
  bool has_ended() { return job_.running().has_ended(); }
  std::string last_line() { return job_.running().last_line(); }

  /// False: the cluster does not answer it.
  result<bool> ask(embed::client& front, known_question& question) {
    if (const auto tag = front.ask(question.what); !tag)
      return tl::unexpected(failure_of(tag.error()));
    auto& text = question.text.emplace();
    const auto deadline = base::now() + std::chrono::milliseconds{setup_.settings.timeouts.request_ms} + hang_deadline;
    while (true) {
      const auto said = front.next_event(deadline);
      job_.running().poll();
      if (!said)
        return tl::unexpected(failure_of(said.error()));
      if (const auto* token = std::get_if<embed::token>(&*said)) {
        question.answer.push_back(token->id);
        text += token->text;
      } else if (const auto* end = std::get_if<embed::finished>(&*said)) {
        text += end->text;
        return end->is_answer();
      } else if (std::get_if<embed::refused>(&*said) != nullptr) {
        return false;
      }
    }
  }

  const series_setup& setup_;
  series_job& job_;
  std::vector<known_question> questions_;
};

} // namespace

result<std::vector<known_question>> draw_questions(const series_setup& setup, std::uint64_t seed, std::size_t count) {
  const auto pictures = pictures_beside(setup.pages);
  if (pictures.empty())
    return fail(fault::config_invalid, "no picture lies beside those of the pages");
  std::set<std::string> prompts;
  for (const auto& page : setup.pages)
    prompts.insert(page.prompt);
  std::mt19937_64 random{seed};
  std::vector<known_question> out;
  for (std::size_t i = 0; i < count; ++i) {
    known_question one;
    one.what.prompt = *std::next(prompts.begin(), static_cast<std::ptrdiff_t>(random() % prompts.size()));
    one.what.max_tokens = answer_lengths[random() % answer_lengths.size()];
    if (random() % 5 == 0)
      one.what.sampling = {.temperature = 0.9F, .top_p = 0.95F, .seed = random()};
    for (auto left = picture_count(random); left > 0; --left) {
      auto picture = read_picture(pictures[random() % pictures.size()]);
      if (!picture)
        return tl::unexpected(picture.error());
      one.shown += picture->name + (left > 1 ? ", " : ": ");
      one.what.pictures.push_back(std::move(*picture));
    }
    one.shown += fmt::format("{} (at most {} tokens{})", one.what.prompt, one.what.max_tokens,
                             one.what.sampling.temperature > 0 ? ", sampled" : "");
    out.push_back(std::move(one));
  }
  return out;
}

result<std::vector<known_question>> learn_answers(const series_setup& setup, std::vector<known_question> questions,
                                                  const std::function<void(std::string_view)>& progress) {
  auto job = series_job::launch(setup, {});
  if (!job)
    return tl::unexpected{job.error()};
  return answer_student{setup, **job, std::move(questions)}.run(progress);
}

} // namespace troupe::tools
