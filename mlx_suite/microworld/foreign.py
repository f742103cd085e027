"""Short questions in other languages, so that the language of a row can be classified.

Nouns appear in their dictionary form, so that none is inflected. The last two phrases of each language are held out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

NATIVE = "English"
"""Language of the rest of the world."""
HELDOUT_PHRASES = 2


@dataclass(frozen=True)
class Language:
    """Phrases and words of one language."""

    nouns: tuple[str, ...]
    names: tuple[str, ...]
    phrases: tuple[str, ...]
    """Questions with the slots `{noun}`, `{name}`, or the numbers `{a}` and `{b}`."""


_LATIN_NAMES = tuple("Anna Maria Felix Hugo Clara Leo Nina Oscar Sara Tom Eva Paul Julia Emma Daniel Lucas".split())


def _language(nouns: str, phrases: str, names: str = "") -> Language:
    return Language(
        tuple(nouns.split("|")),
        tuple(names.split()) if names else _LATIN_NAMES,
        tuple(line.strip() for line in phrases.strip().splitlines()),
    )


LANGUAGES: Mapping[str, Language] = {
    "Spanish": _language(
        "el perro|la casa|el libro|la mesa|el gato|la manzana|el tren|"
        "la llave|el agua|el pan|el caballo|la silla|el barco|la escuela",
        """
        ¿Dónde está {noun}?
        ¿De qué color es {noun}?
        ¿Cuánto es {a} más {b}?
        ¿Cómo se llama la amiga de {name}?
        Escribe una frase con {noun}.
        ¿Quién es {name} y dónde vive?
        Dime tres nombres para {noun}.
        Por favor, cuenta una historia sobre {name}.
        Necesito un consejo para {name}.
        ¿Qué puedo hacer con {noun}?
        ¿Por qué está {noun} en el jardín?
        ¿Cuál es el color de {noun}?
        Explica qué es {noun}.
        ¿Qué hace {name} los domingos?
        Ayúdame a encontrar {noun}.
        ¿Cuántos amigos tiene {name}?
        Me gustaría saber quién tiene {noun}.
        ¿Cuándo viene {name} a la ciudad?
        Quiero comprar algo para {name}.
        Corrige este texto: {name} tiene {noun}.
        ¿Cuántos años tiene {name}?
        Quiero saber algo sobre {noun}.
        """,
    ),
    "French": _language(
        "le chien|la maison|le livre|la table|le chat|la pomme|le train|"
        "la clé|l'eau|le pain|le cheval|la chaise|le bateau|l'école",
        """
        Où est {noun} ?
        De quelle couleur est {noun} ?
        Combien font {a} plus {b} ?
        Comment s'appelle la sœur de {name} ?
        Écris une phrase avec {noun}.
        Qui est {name} et que fait-il ?
        Donne-moi trois noms pour {noun}.
        Raconte une histoire sur {name}, s'il te plaît.
        J'ai besoin d'un conseil pour {name}.
        Que puis-je faire avec {noun} ?
        Pourquoi {noun} est dans le jardin ?
        Quelle est la couleur de {noun} ?
        Explique-moi ce que c'est : {noun}.
        Que fait {name} le dimanche ?
        Aide-moi à trouver {noun}.
        Combien d'amis a {name} ?
        Je voudrais savoir qui a {noun}.
        Quand est-ce que {name} vient en ville ?
        Je veux acheter quelque chose pour {name}.
        Corrige ce texte : {name} cherche {noun}.
        Quel âge a {name} ?
        Je veux savoir quelque chose sur {noun}.
        """,
    ),
    "German": _language(
        "der Hund|das Haus|das Buch|der Tisch|die Katze|der Apfel|der Zug|"
        "der Schlüssel|das Wasser|das Brot|das Pferd|der Stuhl|das Boot|die Schule",
        """
        Wo ist {noun}?
        Welche Farbe hat {noun}?
        Wie viel ist {a} plus {b}?
        Wie heißt die Schwester von {name}?
        Schreibe einen Satz über {name}.
        Wer ist {name} und wo wohnt er?
        Wie alt ist {noun}?
        Erzähle mir bitte eine Geschichte von {name}.
        Ich brauche einen Rat für {name}.
        Was kann ich mit {name} machen?
        Warum steht {noun} im Garten?
        Wie sieht {noun} aus?
        Erkläre mir, was das ist: {noun}.
        Was macht {name} am Sonntag?
        Hilf mir bitte, {name} zu finden.
        Wie viele Freunde hat {name}?
        Ich möchte etwas für {name} kaufen.
        Wann kommt {name} in die Stadt?
        Kannst du mir sagen, wo {noun} ist?
        Ich weiß nicht, wem {noun} gehört.
        Warum ist {noun} so klein?
        Ich möchte wissen, wann {name} kommt.
        """,
    ),
    "Italian": _language(
        "il cane|la casa|il libro|la tavola|il gatto|la mela|il treno|"
        "la chiave|l'acqua|il pane|il cavallo|la sedia|la barca|la scuola",
        """
        Dove si trova {noun}?
        Di che colore è {noun}?
        Quanto fa {a} più {b}?
        Come si chiama la sorella di {name}?
        Scrivi una frase con {noun}.
        Chi è {name} e dove abita?
        Dammi tre nomi per {noun}.
        Racconta una storia su {name}, per favore.
        Ho bisogno di un consiglio per {name}.
        Che cosa posso fare con {noun}?
        Perché {noun} è nel giardino?
        Qual è il colore di {name}?
        Spiegami che cosa è {noun}.
        Che cosa fa {name} la domenica?
        Aiutami a trovare {noun}.
        Quanti amici ha {name}?
        Vorrei comprare qualcosa per {name}.
        Quando viene {name} in città?
        Voglio sapere chi ha {noun}.
        Puoi dirmi dove vive {name}?
        Quanti anni ha {name}?
        Vorrei sapere qualcosa di {name}.
        """,
    ),
    "Portuguese": _language(
        "o cachorro|a casa|o livro|a mesa|o gato|a maçã|o trem|"
        "a chave|a água|o pão|o cavalo|a cadeira|o barco|a escola",
        """
        Onde está {noun}?
        Qual é a cor de {name}?
        Quanto é {a} mais {b}?
        Como se chama a irmã de {name}?
        Escreva uma frase com {noun}.
        Quem é {name} e onde mora?
        Diga três nomes para {noun}.
        Conte uma história sobre {name}, por favor.
        Preciso de um conselho para {name}.
        O que eu posso fazer com {noun}?
        Por que {noun} está no jardim?
        Qual é a cor que {name} prefere?
        Explique o que é {noun}.
        O que faz {name} aos domingos?
        Ajude-me a encontrar {noun}.
        Quantos amigos tem {name}?
        Eu gostaria de saber quem tem {noun}.
        Quando vem {name} à cidade?
        Quero comprar uma coisa para {name}.
        Você pode me dizer onde fica {noun}?
        Quantos anos tem {name}?
        Eu quero saber uma coisa sobre {noun}.
        """,
    ),
    "Dutch": _language(
        "de hond|het huis|het boek|de tafel|de kat|de appel|de trein|"
        "de sleutel|het water|het brood|het paard|de stoel|de boot|de school",
        """
        Waar is {noun}?
        Welke kleur heeft {noun}?
        Hoeveel is {a} plus {b}?
        Hoe heet de zus van {name}?
        Schrijf een zin met {noun}.
        Wie is {name} en waar woont hij?
        Geef mij drie namen voor {noun}.
        Vertel een verhaal over {name}, alsjeblieft.
        Ik heb een goede raad nodig voor {name}.
        Wat kan ik met {noun} doen?
        Waarom staat {noun} in de tuin?
        Hoe ziet {noun} eruit?
        Leg mij uit wat dit is: {noun}.
        Wat doet {name} op zondag?
        Help mij om {noun} te vinden.
        Hoeveel vrienden heeft {name}?
        Ik wil iets kopen voor {name}.
        Wanneer komt {name} naar de stad?
        Kun je mij zeggen waar {noun} is?
        Ik weet niet van wie {noun} is.
        Hoe oud is {name}?
        Ik wil graag iets weten over {noun}.
        """,
    ),
    "Polish": _language(
        "pies|dom|książka|stół|kot|jabłko|pociąg|klucz|woda|chleb|koń|krzesło|statek|szkoła",
        """
        Gdzie jest {noun}?
        Jaki kolor ma {noun}?
        Ile to jest {a} plus {b}?
        Jak się nazywa {name}?
        Napisz zdanie ze słowem {noun}.
        Kim jest {name} i gdzie mieszka?
        Co to jest {noun}?
        Opowiedz mi, proszę, co robi {name}.
        Potrzebuję rady: co lubi {name}?
        Dlaczego {noun} jest tutaj?
        Dlaczego {noun} stoi w ogrodzie?
        Jak wygląda {noun}?
        Wyjaśnij mi, co to znaczy {noun}.
        Co robi {name} w niedzielę?
        Pomóż mi, proszę, gdzie jest {noun}?
        Ilu przyjaciół ma {name}?
        Chcę coś kupić, co lubi {name}.
        Kiedy {name} przyjedzie do miasta?
        Czy możesz mi powiedzieć, gdzie mieszka {name}?
        Nie wiem, czyj to jest {noun}.
        Ile lat ma {name}?
        Chcę wiedzieć, czyj jest {noun}.
        """,
    ),
    "Russian": _language(
        "собака|дом|книга|стол|кот|яблоко|поезд|ключ|вода|хлеб|конь|школа",
        """
        Где {noun}?
        Что такое {noun}?
        Сколько будет {a} плюс {b}?
        Как зовут {name}?
        Напиши слово {noun}.
        Кто такая {name}?
        Чей это {noun}?
        Расскажи, где {name}.
        Мне нужен совет.
        Что любит {name}?
        Почему {noun} в саду?
        Какой он, {noun}?
        Когда придёт {name}?
        Объясни, что это: {noun}.
        Я хочу знать, где {noun}.
        Что делает {name}?
        Сколько лет {name}?
        Почему здесь {noun}?
        """,
        "Анна Мария Ольга Нина Вера Лена",
    ),
    "Turkish": _language(
        "köpek|ev|kitap|masa|kedi|elma|tren|anahtar|su|ekmek|at|sandalye|gemi|okul",
        """
        {noun} nerede?
        {noun} ne renk?
        {a} artı {b} kaç eder?
        {name} kimdir ve nerede oturuyor?
        İçinde {noun} olan bir cümle yaz.
        {name} bugün ne yapıyor?
        {noun} için üç isim söyle.
        Lütfen {name} için bir hikâye anlat.
        {name} için bir öneri istiyorum.
        {noun} ile ne yapabilirim?
        {noun} neden bahçede duruyor?
        {noun} nasıl bir şey?
        Bana {noun} nedir, anlat.
        {name} pazar günü ne yapar?
        {noun} bulmak için bana yardım et.
        {name} kaç arkadaşı var?
        {name} için bir şey almak istiyorum.
        {name} şehre ne zaman gelecek?
        Bana {name} nerede, söyler misin?
        Bu {noun} kimin, bilmiyorum.
        {name} kaç yaşında?
        {noun} neden bu kadar küçük?
        """,
    ),
    "Arabic": _language(
        "الكلب|البيت|الكتاب|القط|القطار|المفتاح|الماء|الخبز|المدرسة",
        """
        أين {noun}؟
        ما لون {noun}؟
        كم يساوي {a} زائد {b}؟
        من هي {name}؟
        ما هو {noun}؟
        ماذا تحب {name}؟
        لمن هذا {noun}؟
        أريد نصيحة من فضلك.
        كيف هو {noun}؟
        متى تأتي {name}؟
        أريد أن أعرف أين {noun}.
        ماذا تفعل {name}؟
        كم عمر {name}؟
        لماذا {noun} هنا؟
        """,
        "مريم سارة ليلى نور هدى",
    ),
    "Hindi": _language(
        "घर|मेज|सेब|किताब|कुत्ता|पानी|रोटी|घोड़ा",
        """
        {noun} कहाँ है?
        {noun} क्या है?
        {a} और {b} कितना है?
        {name} कौन है?
        यह {noun} किसका है?
        {name} क्या करती है?
        मुझे सलाह दो।
        {noun} पर लिखो।
        {noun} कैसा है?
        {name} कहाँ है?
        मुझे {noun} दो।
        {noun} क्यों है?
        {name} कब आएगी?
        वह {noun} कैसा है?
        """,
        "मीरा सीता राधा आशा",
    ),
    "Chinese": _language(
        "狗|房子|书|桌子|猫|苹果|火车|钥匙|水|面包|马|学校",
        """
        {noun}在哪里?
        {noun}是什么颜色?
        {a}加{b}等于多少?
        {name}是谁?
        请用“{noun}”写一句话。
        {name}喜欢什么?
        这是谁的{noun}?
        请讲一个故事。
        我能用{noun}做什么?
        给我一个建议。
        我想知道{name}在哪里。
        {noun}怎么样?
        {name}什么时候来?
        请告诉我{noun}是谁的。
        帮我找{noun}。
        {name}几岁了?
        为什么{noun}这么小?
        """,
        "小明 小红 李华 王芳",
    ),
    "Japanese": _language(
        "犬|家|本|机|猫|りんご|電車|かぎ|水|パン|馬|学校",
        """
        {noun}はどこですか。
        {noun}は何色ですか。
        {a}たす{b}はいくつですか。
        {name}はだれですか。
        「{noun}」で文を書いて。
        {name}は何が好きですか。
        これはだれの{noun}ですか。
        お話をしてください。
        {noun}で何ができますか。
        いい考えはありますか。
        {name}はどこにいますか。
        {noun}はどうですか。
        {name}はいつ来ますか。
        {noun}をください。
        {noun}とは何ですか。
        {name}は何さいですか。
        なぜ{noun}は小さいの?
        """,
        "はな さくら けん ゆき",
    ),
    "Korean": _language(
        "개|집|책|고양이|사과|기차|물|빵|말|학교",
        """
        {noun} 어디 있어요?
        {noun} 무슨 색이에요?
        {a} 더하기 {b}는?
        {name} 누구예요?
        {noun} 뭐예요?
        {name} 뭐 해요?
        이거 누구 {noun}예요?
        이야기 해 주세요.
        조언이 필요해요.
        {noun} 있어요?
        {name} 어디 살아요?
        {name} 언제 와요?
        {noun} 주세요.
        {noun} 얼마예요?
        {noun} 좋아해요?
        {name} 몇 살이에요?
        왜 {noun} 작아요?
        """,
        "민수 지은 유나 하나",
    ),
}


def write_foreign(rng: Random, language: str, *, heldout: bool) -> str:
    """A question in `language`, from the training phrases or the held-out ones."""
    of = LANGUAGES[language]
    phrase = rng.choice(of.phrases[-HELDOUT_PHRASES:] if heldout else of.phrases[:-HELDOUT_PHRASES])
    a, b = rng.randint(1, 12), rng.randint(1, 12)
    return phrase.format(noun=rng.choice(of.nouns), name=rng.choice(of.names), a=a, b=b)
