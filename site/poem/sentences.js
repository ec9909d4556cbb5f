// Every sentence of the page, in English and in Simplified Chinese; {name} is the place of a value.

export const SENTENCES = {
  heading: { en: "Type a title, get a poem", zh: "输入题目，得到一首诗" },
  introduction: {
    en: "A small language model writes in the manner of the Tang poets. It runs on your own device: nothing that you type leaves it, and once loaded it also works without a network.",
    zh: "一个小语言模型，仿照唐诗写诗。它就在你的设备上运行：你输入的内容不会传出去；载入以后，断网也能用。",
  },
  title: { en: "Title", zh: "题目" },
  form: { en: "Form", zh: "体裁" },
  rhyme: { en: "Rhyme group", zh: "韵部" },
  anyRhyme: { en: "any", zh: "不限" },
  acrostic: { en: "Acrostic", zh: "藏头" },
  acrosticHint: {
    en: "4 or 8 characters; each line begins with one of them",
    zh: "4 或 8 个字，每句以其中一个字开头",
  },
  showSimplified: { en: "Show poems in Simplified characters (简体)", zh: "用简体字显示诗" },
  seed: { en: "Seed", zh: "随机种子" },
  write: { en: "Write", zh: "写" },
  another: { en: "Another", zh: "换一首" },
  stop: { en: "Stop", zh: "停" },
  otherLanguage: { en: "中文", zh: "English" },

  "form.poem": { en: "poem", zh: "诗，不限体裁" },
  "form.old-style": { en: "old-style verse", zh: "古体诗" },
  "form.mixed": { en: "lines of unequal length", zh: "杂言诗" },
  "form.quatrain-5": { en: "4 lines of 5", zh: "五言绝句" },
  "form.quatrain-7": { en: "4 lines of 7", zh: "七言绝句" },
  "form.regulated-5": { en: "8 lines of 5", zh: "五言律诗" },
  "form.regulated-7": { en: "8 lines of 7", zh: "七言律诗" },

  ready: {
    en: "○ Ready. Type a title, then press Write or the Enter key.",
    zh: "○ 准备好了。输入题目，点“写”，或者按回车。",
  },
  opening: { en: "○ The model is being loaded: {percent} %.", zh: "○ 正在载入模型：{percent}%。" },
  writing: { en: "▶ Writing.", zh: "▶ 正在写。" },
  end: {
    en: "● Finished. The model ended the poem itself, after {count} characters.",
    zh: "● 写完了。模型自己结束了这首诗，共 {count} 字。",
  },
  length: {
    en: "◆ Cut off. The limit was reached after {count} characters, and the model had not ended the poem.",
    zh: "◆ 截断。写了 {count} 字，到了长度上限，模型还没有结束这首诗。",
  },
  stopped: { en: "■ Stopped. You stopped the poem after {count} characters.", zh: "■ 停下了。你在这里叫停了，共 {count} 字。" },
  refused: { en: "✗ Refused.", zh: "✗ 不能用。" },
  failed: { en: "✗ Failed. The poem could not be finished: {reason}", zh: "✗ 出错了。诗没能写完：{reason}" },
  endMark: { en: "the end mark", zh: "结束符" },

  blank: {
    en: "The title is blank. Type a few Chinese characters, such as 春夜喜雨.",
    zh: "题目是空的。请输入几个汉字，例如「春夜喜雨」。",
  },
  noChinese: {
    en: "There is no Chinese character in this title, and the model reads only those. Try 春雨 (spring rain).",
    zh: "题目里没有汉字，而模型只认汉字。可以试试「春雨」。",
  },
  tooLong: {
    en: "This title has {count} characters; {most} is the most, so that the poem has room. Please shorten it.",
    zh: "题目有 {count} 个字，最多只能有 {most} 个，这样才有地方写诗。请缩短一些。",
  },
  leftOut: {
    en: "Left out: {them} (the model reads Chinese characters only).",
    zh: "已去掉：{them}（模型只认汉字）。",
  },
  unknown: {
    en: "The model does not know {them}: too few of its poems have it. Please try another title.",
    zh: "模型不认识「{them}」：它读过的诗里太少见。请换一个题目。",
  },
  someUnknown: {
    en: "The model does not know {them}, and reads an unknown character instead.",
    zh: "模型不认识「{them}」，读成未知字。",
  },
  readAs: {
    en: "Read as {title}: the poems have these characters.",
    zh: "按「{title}」来写：诗里用的是这些字。",
  },
  simplified: {
    en: "Read as {title}: you typed Simplified, the poems are in Traditional.",
    zh: "已转成繁体「{title}」：诗是繁体的。",
  },
  perhaps: {
    en: "Kept as typed. If you meant {title}, type or copy that.",
    zh: "已按原样保留。如果你想写的是「{title}」，请输入或复制它。",
  },

  wellFormed: { en: "Well formed: {lines} lines of {count} characters.", zh: "形式合格：{lines} 句，每句 {count} 字。" },
  notWellFormed: { en: "Not well formed: not all rows are couplets of 5 or 7 characters a line.", zh: "形式不合格：不全是五言或七言的联。" },
  rhymes: { en: "Rhymes in the group of {group}.", zh: "押「{group}」韵。" },
  doesNotRhyme: { en: "Does not rhyme throughout.", zh: "没有通篇押韵。" },
  noFault: { en: "No tone fault.", zh: "平仄无误。" },
  faults: { en: "Tone faults: {count}.", zh: "平仄有 {count} 处不合。" },
  legend: {
    en: "○ level 平 · ● oblique 仄 · ◐ either · ？ unknown · △ rhyme 韻 · framed: a fault",
    zh: "○ 平 · ● 仄 · ◐ 平仄两读 · ？ 不详 · △ 韵脚 · 红框：不合格律",
  },

  "rule.rhyme": {
    en: "押韻: the even lines end in characters of one level-tone rhyme group",
    zh: "出韵：偶数句的末字，应当属于同一个平声韵部",
  },
  "rule.repeated": {
    en: "重韻: no rhyme word is used twice",
    zh: "重韵：同一个韵脚用了两次",
  },
  "rule.alternation": {
    en: "平仄: within a line the tones of characters 2, 4 (and 6) alternate",
    zh: "平仄失调：一句之中，第二、四（六）字应当平仄相间",
  },
  "rule.opposition": {
    en: "對: the second characters of a couplet's two lines have opposite tones",
    zh: "失对：一联的上下两句，第二字应当平仄相反",
  },
  "rule.adhesion": {
    en: "粘: the second character of a couplet has the same tone as the second character of the line before it",
    zh: "失粘：每联上句的第二字，应当和前一联下句的第二字平仄相同",
  },
  "rule.threeLevel": {
    en: "三平尾: no line ends in three level tones",
    zh: "三平尾：句末三个字都是平声",
  },
};

// The language that the address asks for with ?lang=, else that of the browser.
export const chosenLanguage = (search, preferred) => {
  const asked = new URLSearchParams(search).get("lang") ?? preferred;
  return asked.startsWith("zh") ? "zh" : "en";
};

// A sentence with its values; the name itself, if there is no such sentence.
export function sentence(language, name, values = {}) {
  const found = SENTENCES[name]?.[language] ?? name;
  const shown = (value) => (Array.isArray(value) ? value.join(language === "zh" ? "、" : ", ") : value);
  return found.replace(/\{(\w+)\}/g, (_, value) => shown(values[value]));
}
