#include <fmt/format.h>

#include <array>

#include "gpu/models/templates/template_words.hpp"

namespace troupe::gpu::models {

std::string date_text(const std::tm& now, std::string_view form, template_place at) {
  constexpr std::string_view known = "aAbBdHIjmMpSyY%";
  constexpr std::array<std::string_view, 7> days{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                 "Thursday", "Friday", "Saturday"};
  constexpr std::array<std::string_view, 12> months{"January",   "February", "March",    "April",
                                                    "May",       "June",     "July",     "August",
                                                    "September", "October",  "November", "December"};
  const std::string_view day = days.at(static_cast<std::size_t>(now.tm_wday));
  const std::string_view month = months.at(static_cast<std::size_t>(now.tm_mon));
  std::string out;
  for (std::size_t i = 0; i < form.size(); ++i) {
    if (form[i] != '%') {
      out += form[i];
      continue;
    }
    const bool bare = form.substr(i + 1).starts_with('-'); // without leading zeros
    i += bare ? 2 : 1;
    const char what = i < form.size() ? form[i] : '\0';
    const auto number = [&](int value, int digits) {
      out += bare ? std::to_string(value) : fmt::format("{:0{}}", value, digits);
    };
    const int half = now.tm_hour % 12;
    switch (what) {
    case 'a':
      out += day.substr(0, 3);
      break;
    case 'A':
      out += day;
      break;
    case 'b':
      out += month.substr(0, 3);
      break;
    case 'B':
      out += month;
      break;
    case 'd':
      number(now.tm_mday, 2);
      break;
    case 'H':
      number(now.tm_hour, 2);
      break;
    case 'I':
      number(half == 0 ? 12 : half, 2);
      break;
    case 'j':
      number(now.tm_yday + 1, 3);
      break;
    case 'm':
      number(now.tm_mon + 1, 2);
      break;
    case 'M':
      number(now.tm_min, 2);
      break;
    case 'p':
      out += now.tm_hour < 12 ? "AM" : "PM";
      break;
    case 'S':
      number(now.tm_sec, 2);
      break;
    case 'y':
      number(now.tm_year % 100, 2);
      break;
    case 'Y':
      out += std::to_string(now.tm_year + 1900);
      break;
    case '%':
      out += '%';
      break;
    default:
      throw template_problem(at, fmt::format("a date of the form \"{}\"; understood behind % are {}", form, known));
    }
  }
  return out;
}

} // namespace troupe::gpu::models
