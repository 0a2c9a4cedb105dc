// The button that switches the colors: as in the system, light, dark. The choice is kept, where storage is allowed.
const THEMES = ["auto", "light", "dark"];
const THEME_WORDS = { auto: "follow the system", light: "light", dark: "dark" };
const THEME_KEY = "result-page-theme";

function storedTheme() {
  try {
    const stored = window.localStorage.getItem(THEME_KEY);
    return THEMES.includes(stored) ? stored : "auto";
  } catch (error) {
    return "auto"; // storage is forbidden
  }
}

function showTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
  button.title = `Colors: ${THEME_WORDS[theme]}`;
  button.setAttribute("aria-label", button.title);
}

function turnTheme() {
  const theme = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
  try {
    window.localStorage.setItem(THEME_KEY, theme);
  } catch (error) {
    // storage is forbidden: the choice lasts as long as the page
  }
  showTheme(theme);
}

showTheme(storedTheme());
document.getElementById("theme").addEventListener("click", turnTheme);
