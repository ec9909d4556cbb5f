// What the search of a Chinese page says when it finds nothing, and when it is asked for nothing.

Documentation.addTranslations({
  messages: {
    "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've selected enough categories.":
      "没有找到。请换一个词试试。",
  },
  locale: "zh_Hans_CN",
  plural_expr: "0",
});

document.addEventListener("DOMContentLoaded", () => {
  if (new URLSearchParams(location.search).get("q")) return;
  document.querySelector("#search-results").textContent = "请在搜索框里输入要找的词。";
});
